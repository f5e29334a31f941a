"""A policy server as a process of its own, and a path to it that a test can cut.

`python -m robot_server_process PORT` serves the policy that swings an arm, until it is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

from arm_rig import Server, swing

RELAY_TURN = 0.05
DATAGRAM_BYTES = 65535


class ServerProcess:
    """The server as a process, always at the same port."""

    def __init__(self):
        self.port = 0
        self.start()

    def start(self):
        """Start it; returns when it serves."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "robot_server_process", str(self.port)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self.process.stdout.readline()
        assert said, f"the server did not start: it ended with {self.process.wait()}"
        self.port = int(said)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def close(self):
        if self.process.returncode is None:
            self.kill()


class Relay:
    """Carries datagrams between one client and a server, or drops them.

    Attributes:
        is_cut: drops all datagrams, both ways.
    """

    def __init__(self, server):
        self.server, self.is_cut = server, False
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self.port = self._near.getsockname()[1]
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.connect(("127.0.0.1", server.port))
        self._client = None
        self._open = True
        self._threads = [threading.Thread(target=turn) for turn in (self._send, self._return)]
        for end, thread in zip((self._near, self._far), self._threads, strict=True):
            end.settimeout(RELAY_TURN)
            thread.start()

    def _send(self):
        while self._open:
            try:
                datagram, self._client = self._near.recvfrom(DATAGRAM_BYTES)
                if not self.is_cut:
                    self._far.send(datagram)
            except OSError:  # nothing came, or the server is gone
                continue

    def _return(self):
        while self._open:
            try:
                datagram = self._far.recv(DATAGRAM_BYTES)
                if not self.is_cut:
                    self._near.sendto(datagram, self._client)
            except OSError:
                continue

    @property
    def answered(self):
        return self.server.answered

    def mend(self):
        self.is_cut = False

    def close(self):
        self._open = False
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()
        self.server.close()


def main():
    server = Server(swing(), port=int(sys.argv[1]))
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()

"""What the QUIC tests share: a server with a handler, an event-driven wait, a process to kill."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from flash_transport import CodecError, QuicServer

LONG = 30.0
"""Seconds that no healthy test waits for to the end."""


def echo(request):
    request.respond({"echo": request.observation, "session": request.session})


class Served:
    """A server on a free port of the loopback; a thread gives each request to `handle`."""

    def __init__(self, handle=echo, **server_arguments):
        arguments = {"host": "127.0.0.1", "port": 0, "metadata": {}, **server_arguments}
        self.server = QuicServer(**arguments)
        self.port = self.server.port
        self._handle = handle
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while self._take(self.server.next_request()):
            pass

    def _take(self, request):
        if request is None:
            return False
        try:
            self._handle(request)
        except CodecError as error:
            request.fail("bad_request", str(error))
        return True

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.server.close()
        self._thread.join()


def eventually(holds):
    """Waits for what another thread or process is about to do."""
    until = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.001)


@contextlib.contextmanager
def thread_results(*calls):
    """Runs each call in a thread of its own; yields the list that their results come into.

    An exception is a result, too.
    """
    results = [None] * len(calls)

    def run(index, call):
        try:
            results[index] = call()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index, call)) for index, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    yield results
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def in_threads(*calls):
    """The results of calls that run at the same time."""
    with thread_results(*calls) as results:
        pass
    return results


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """A server in a process of its own (`quic_server_process.py`), which says what it does."""

    def __init__(self, port=0, certificate_dir=""):
        script = Path(__file__).with_name("quic_server_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(port), str(certificate_dir)],
            stdout=subprocess.PIPE,
            text=True,
        )
        word, number = self.next_line().split()
        assert word == "port"
        self.port = int(number)

    def next_line(self):
        line = self._process.stdout.readline()
        assert line, "the server process ended"
        return line.strip()

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._process.returncode is None:
            self.kill()

"""A server as a process, for tests that read its lines and send it signals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request

from server_fakes import WAIT

UDP_BUFFERS = "the kernel grants UDP sockets"


class Process:
    """A server process; its stdout is read line by line."""

    def __init__(self, directory, config, *, program=None):
        path = directory / "server.json"
        path.write_text(
            json.dumps(
                {"state_dir": str(directory / "state"), "admin": {"enabled": False}, **config}
            )
        )
        self.path = path
        command = program or [sys.executable, "-m", "openpi_flash_server"]
        self.popen = subprocess.Popen(
            [*command, "serve", "--config", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"OPENPI_LOG_FORMAT": "text", **os.environ, "JAX_PLATFORMS": "cpu"},
        )
        self.lines = []

    def wait_for(self, text, seconds=90):
        """Reads until a line holds `text`; fails if the process ends or is slow."""
        alarm = threading.Timer(seconds, self.popen.kill)
        alarm.start()
        try:
            for line in self.popen.stdout:
                # a matter of the machine that runs the test, and not of the server
                if UDP_BUFFERS not in line:
                    self.lines.append(line.rstrip("\n"))
                if text in line:
                    return self.lines[-1]
        finally:
            alarm.cancel()
        raise AssertionError(f"no {text!r} in {self.lines}\n{self.popen.stderr.read()}")

    def ports(self, slot="action"):
        line = next(line for line in self.lines if f"listening  slot={slot}" in line)
        found = re.search(r"websocket=\S+:(\d+) quic=\S+:(\d+)", line)
        return int(found[1]), int(found[2])

    def go_on(self):
        """Lets a slow program do its next step."""
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def kill(self):
        """Leaves nothing behind, however the test went."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            stream.close()

    def end(self):
        """Waits for the end; returns exit code, remaining stdout and stderr."""
        out, err = self.popen.communicate(timeout=60)
        self.lines += out.splitlines()
        return self.popen.returncode, err


def health(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=WAIT) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()

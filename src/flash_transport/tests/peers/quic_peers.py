"""What the QUIC tests share: a server with a handler, an event-driven wait, a process to kill."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from flash_transport import CodecError, QuicServer, packb

LONG = 30.0
"""Seconds that no healthy test waits for to the end."""


def three_cameras(seed=0):
    """An observation of the size that robots send."""
    random = np.random.default_rng(seed)
    return {
        "images": random.integers(0, 256, (3, 224, 224, 3), np.uint8),
        "observation/state": random.standard_normal(7).astype(np.float32),
        "prompt": "pick up the cube",
    }


def same(one, other):
    """Equal down to the dtypes and bytes of arrays."""
    return packb(one) == packb(other)


def echo(request):
    request.respond({"echo": request.observation, "session": request.session})


def echo_together(count):
    """A handler that echoes to nobody before `count` have asked."""
    everybody = threading.Barrier(count)

    def meet(request):
        def answer():
            everybody.wait(LONG)
            echo(request)

        threading.Thread(target=answer).start()

    return meet


class Serving:
    """A server that runs; a thread gives each of its requests to `handle`."""

    def __init__(self, server, handle=echo):
        self.server = server
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


class Served(Serving):
    """A QUIC server on a free port of the loopback."""

    def __init__(self, handle=echo, **server_arguments):
        arguments = {"host": "127.0.0.1", "port": 0, "metadata": {}, **server_arguments}
        server = QuicServer(**arguments)
        self.port = server.port
        super().__init__(server, handle)


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


class Process:
    """A script of this folder in a process of its own, which says what it does, to be killed."""

    def __init__(self, script, *arguments):
        self.popen = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )

    def next_line(self):
        line = self.popen.stdout.readline()
        assert line, "the process ended"
        return line.strip()

    def kill(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.popen.returncode is None:
            self.kill()


class ClientProcess(Process):
    """A client that is connected when it says so (`quic_client_process.py`)."""

    def __init__(self, port, session, *, asks=False):
        super().__init__("quic_client_process.py", port, session, "ask" if asks else "")
        assert self.next_line() == "connected"


class ServerProcess(Process):
    """A server (`quic_server_process.py`)."""

    def __init__(self, port=0, certificate_dir="", ledger=""):
        super().__init__("quic_server_process.py", port, certificate_dir, ledger)
        word, number = self.next_line().split()
        assert word == "port"
        self.port = int(number)

"""A server of openpi's protocol, for tests of clients."""

import contextlib
import itertools
import socket
import threading

import websockets.sync.server
from openpi_client import msgpack_numpy
from websockets.exceptions import ConnectionClosed

from flash_transport import packb

SOON = 10.0
"""Seconds in which everything here happens, on any machine; nothing waits for their end."""
SHORT = 0.15
"""Seconds in which something does not happen."""


class OpenpiServer:
    """A server of openpi's protocol, answered by `answer(observation, connection_number)`.

    What it returns is sent: a dict packed, a str as openpi sends a traceback, bytes as they are.
    """

    def __init__(self, answer=lambda observation, number: observation, port=0, **options):
        self.answer = answer
        self.metadata = {"model": "pi0"}
        self.headers = []
        self.connections = []
        self._numbers = itertools.count()
        self._server = websockets.sync.server.serve(
            self._talk, "127.0.0.1", port, compression=None, max_size=None, **options
        )
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _talk(self, connection):
        number = next(self._numbers)
        self.headers.append(connection.request.headers)
        self.connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            connection.send(msgpack_numpy.packb(self.metadata))
            while True:
                answer = self.answer(msgpack_numpy.unpackb(connection.recv()), number)
                if isinstance(answer, str):
                    connection.send(answer)
                    connection.close(1011, "Internal server error.")
                    return
                connection.send(answer if isinstance(answer, bytes) else packb(answer))

    def cut(self):
        """Every connection ends as when the process dies."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self.cut()


@contextlib.contextmanager
def serving(*args, **kwargs):
    server = OpenpiServer(*args, **kwargs)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def in_thread(work):
    """Runs `work` beside the block; `.result()` is what came of it."""
    outcome = []

    def run():
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    class Running:
        @staticmethod
        def result():
            thread.join(SOON)
            assert outcome, "still running"
            value, error = outcome[0]
            if error is not None:
                raise error
            return value

    yield Running
    thread.join(SOON)


def choose_ours(connection, offered):
    return "openpi-flash.1" if "openpi-flash.1" in offered else None

"""A slot behind a port of this machine, for tests to ask and to close."""

import http.client
import tempfile
import threading
import time
from pathlib import Path

import websockets.sync.client
from server_fakes import SPEC, WAIT, logged_slot, open_with
from slot_pair import Pair

from flash_transport import FlashTransportPolicy, WebsocketPolicy
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.serving.metadata import action_metadata
from openpi_flash_server.transports.certificate import KeptCertificate
from openpi_flash_server.transports.local import LocalTransport
from openpi_flash_server.transports.quic import QuicTransport
from openpi_flash_server.transports.websocket.listener import WebsocketTransport


def wait_until(condition):
    """Returns when the condition holds, which no event tells; fails after WAIT s."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "the condition does not come true"
        threading.Event().wait(0.001)


class ServedSlot:
    """A policy in a slot, behind the transport that `listen` makes of it.

    With a planner, the policy acts on its subtasks.
    """

    def __init__(self, policy, listen, *, opened, planner=None):
        self.policy, self.planner = policy, planner
        self._pair = None if planner is None else Pair(policy, planner)
        self.slot = logged_slot() if self._pair is None else self._pair.action_slot
        self.transport = listen(self.slot)
        self.is_closed = False
        if opened:
            self.open()

    def open(self):
        if self._pair is None:
            open_with(self.slot, ActionHandler(self.policy))
        self.transport.publish(action_metadata(SPEC, has_planner=self._pair is not None))

    def wait_until_waiting(self, count):
        """Returns when so many requests wait for their turn."""
        wait_until(lambda: self.slot.waiting >= count)

    def close(self):
        for model in (self.policy, self.planner):
            if model is not None and model.gate is not None:
                model.gate.set()
        if self.is_closed:
            return
        self.is_closed = True
        assert self.slot.close(grace=WAIT)
        if self._pair is not None:
            assert self._pair.planner_slot.close(grace=WAIT)
        self.transport.close(grace=WAIT)


class QuicServer(ServedSlot):
    """A slot behind QUIC, which keeps its certificate in `directory`."""

    def __init__(self, directory, policy, *, opened=True, planner=None, **options):
        def listen(slot):
            certificate = KeptCertificate(directory)
            return QuicTransport(slot, host="127.0.0.1", port=0, certificate=certificate, **options)

        super().__init__(policy, listen, opened=opened, planner=planner)
        self.port = self.transport.port

    def connect(self, **options):
        return FlashTransportPolicy(
            "127.0.0.1", self.port, server_fingerprint=self.transport.fingerprint, **options
        )

    @property
    def connections(self):
        """The clients that are connected."""
        return self.transport._native.clients()


class UnixServer(ServedSlot):
    """A slot behind a unix socket."""

    def __init__(self, policy, *, opened=True, planner=None, **options):
        # pytest's own folders are too deep for the path of a socket
        self._directory = tempfile.TemporaryDirectory(prefix="flash-")
        self.path = Path(self._directory.name) / "action.sock"

        def listen(slot):
            return LocalTransport(slot, path=self.path, **options)

        super().__init__(policy, listen, opened=opened, planner=planner)

    def connect(self, **options):
        return FlashTransportPolicy(f"unix:{self.path}", **options)

    @property
    def connections(self):
        """The clients that are connected."""
        return self.transport._native.clients()

    def close(self):
        super().close()
        self._directory.cleanup()


class WebsocketServer(ServedSlot):
    """A slot behind a WebSocket."""

    def __init__(self, policy, *, opened=True, planner=None, **options):
        def listen(slot):
            return WebsocketTransport(slot, host="127.0.0.1", port=0, **options)

        super().__init__(policy, listen, opened=opened, planner=planner)
        self.port = self.transport.port

    def connect(self, **options):
        return WebsocketPolicy("127.0.0.1", self.port, **options)

    @property
    def connections(self):
        """The clients that are connected."""
        return [*self.transport._native.clients(), *self.transport.sessions.open]

    @property
    def connection_count(self):
        """How many connections there have been."""
        return self.transport.counters["connections_accepted"]


def connect(server, **options):
    """A bare connection to a WebSocket server."""
    return websockets.sync.client.connect(
        f"ws://127.0.0.1:{server.port}", compression=None, max_size=None, **options
    )


def get(server, path="/healthz"):
    """Status and text of a page of a WebSocket server."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()

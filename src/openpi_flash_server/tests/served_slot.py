"""A slot behind a port of this machine, for tests to ask and to close."""

import http.client
import threading
import time

import websockets.sync.client
from server_fakes import SPEC, WAIT, logged_slot, open_with

from flash_transport import FlashTransportPolicy
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.serving.metadata import action_metadata
from openpi_flash_server.transports.quic import KeptCertificate, QuicTransport
from openpi_flash_server.transports.websocket.listener import WebsocketTransport


def wait_until(condition):
    """Returns when the condition holds, which no event tells; fails after WAIT s."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "the condition does not come true"
        threading.Event().wait(0.001)


class ServedSlot:
    """A policy in a slot, behind the transport that `listen` makes of it."""

    def __init__(self, policy, listen, *, opened):
        self.policy = policy
        self.slot = logged_slot()
        self.transport = listen(self.slot)
        self.port = self.transport.port
        if opened:
            self.open()

    def open(self):
        open_with(self.slot, ActionHandler(self.policy))
        self.transport.publish(action_metadata(SPEC, has_planner=False))

    def wait_until_waiting(self, count):
        """Returns when so many requests wait for their turn."""
        wait_until(lambda: self.slot.waiting >= count)

    def close(self):
        if self.policy.gate is not None:
            self.policy.gate.set()
        assert self.slot.close(grace=WAIT)
        self.transport.close(grace=WAIT)


class QuicServer(ServedSlot):
    """A slot behind QUIC, which keeps its certificate in `directory`."""

    def __init__(self, directory, policy, *, opened=True, **options):
        def listen(slot):
            certificate = KeptCertificate(directory)
            return QuicTransport(slot, host="127.0.0.1", port=0, certificate=certificate, **options)

        super().__init__(policy, listen, opened=opened)

    def connect(self, **options):
        return FlashTransportPolicy(
            "127.0.0.1", self.port, server_fingerprint=self.transport.fingerprint, **options
        )


class WebsocketServer(ServedSlot):
    """A slot behind a WebSocket."""

    def __init__(self, policy, *, opened=True, **options):
        def listen(slot):
            return WebsocketTransport(slot, host="127.0.0.1", port=0, **options)

        super().__init__(policy, listen, opened=opened)

    @property
    def connection_count(self):
        """How many connections there have been."""
        return next(self.transport._connection_numbers) - 1


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

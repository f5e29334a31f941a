"""What the WebSocket tests share: a slot behind a port, and ways to ask it."""

import http.client
import threading
import time

import websockets.sync.client
from server_fakes import SPEC, WAIT

from openpi_flash_server.action import ActionHandler
from openpi_flash_server.metadata import action_metadata
from openpi_flash_server.slot import Slot
from openpi_flash_server.websocket_transport import WebsocketTransport

METADATA = action_metadata(SPEC, has_planner=False)


class WebsocketServer:
    """A slot behind a WebSocket port of this machine."""

    def __init__(self, policy, *, opened=True, **options):
        self.policy = policy
        self.slot = Slot("action")
        self.transport = WebsocketTransport(self.slot, host="127.0.0.1", port=0, **options)
        self.port = self.transport.port
        if opened:
            self.open()

    def open(self):
        self.slot.open(ActionHandler(self.policy))
        self.transport.publish(METADATA)

    @property
    def connection_count(self):
        """How many connections there have been."""
        return next(self.transport._connection_numbers) - 1

    def wait_until_waiting(self, count):
        """Returns when so many requests wait for their turn."""
        deadline = time.monotonic() + WAIT
        while len(self.slot._scheduler) < count:
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)

    def close(self):
        if self.policy.gate is not None:
            self.policy.gate.set()
        assert self.slot.close(grace=WAIT)
        self.transport.close(grace=WAIT)


def connect(server, **options):
    return websockets.sync.client.connect(
        f"ws://127.0.0.1:{server.port}", compression=None, max_size=None, **options
    )


def get(server, path="/healthz"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()

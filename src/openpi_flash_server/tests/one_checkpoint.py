"""Positronic's sessions of a slot behind a WebSocket."""

import threading

from server_fakes import Inbox

from openpi_flash_server.positronic.codecs import ChunkTiming
from openpi_flash_server.transports.websocket.checkpoint_source import Lease, Unavailable, Waiting
from openpi_flash_server.transports.websocket.positronic_protocol import PositronicSessions


class OneCheckpoint:
    """A source with the slot's own checkpoint; `arrived` holds others back until a test answers."""

    def __init__(self, slot):
        self.slot = slot
        self.asked = Inbox()
        self.released = threading.Event()
        self.cancelled = threading.Event()
        self.line = ("waiting", "Waiting for 1 active session(s) to finish...")

    def names(self):
        return ["10000", "20000"]

    def lease(self, name):
        return Lease(name, "/runs/exp_v1", "pi05_droid", self.slot, None, self.released.set)

    def request(self, name, ready):
        if name in (None, "10000"):
            ready(self.lease("10000"))
        elif name == "20000":
            self.asked(ready)
        else:
            ready(Unavailable(f"Checkpoint not found or invalid ID: {name}"))
        return Waiting(lambda: self.line, self.cancelled.set)


def hold_sessions(server, *, codec="ee", timing=None):
    """Lets Positronic's clients in, and tells them every moment why they wait."""
    server.checkpoints = OneCheckpoint(server.slot)
    server.transport.sessions.protocol._status_every = 0.01
    server.transport.hold_sessions(
        PositronicSessions(codec, timing or ChunkTiming(), False, server.checkpoints, "0.0.0.0")
    )

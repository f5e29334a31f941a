"""A client of Positronic's sessions, of the packages that Positronic publishes."""

import numpy as np
import pytest

wire = pytest.importorskip("positronic_wire.wire")
serialization = pytest.importorskip("positronic_model_server.serialization")

from positronic_wire.websocket import WebsocketClientWire  # noqa: E402
from server_fakes import WAIT  # noqa: E402

OBSERVATION = {
    "robot_state.q": np.arange(7, dtype=np.float32) / 10,
    "robot_state.dq": np.zeros(7, np.float32),
    "robot_state.ee_pose": np.array([0.1, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0]),
    "grip": 0.25,
    "image.wrist": np.full((168, 224, 3), 50, np.uint8),
    "image.exterior": np.full((168, 224, 3), 200, np.uint8),
    "image.agent_view": np.zeros((168, 224, 3), np.uint8),
    "task": "stack the cubes",
    "__wall_time_ns__": 1,
}
"""As the simulated robot of positronic 0.2.1 sends it."""


def address(port, checkpoint=None, query=""):
    path = wire.SESSION_PATH if checkpoint is None else f"{wire.SESSION_PATH}/{checkpoint}"
    return wire.HostPortAddress("127.0.0.1", port, path, query)


class PositronicSession:
    """One session; what came before `ready` is kept in `before`."""

    def __init__(self, port, checkpoint=None, *, query="", headers=None):
        self.connection = WebsocketClientWire().dial(
            address(port, checkpoint, query), headers, WAIT
        )
        self.before = []

    def receive(self):
        return serialization.deserialise(self.connection.recv(WAIT))

    def until_ready(self):
        while (frame := self.receive())["status"] in ("loading", "waiting"):
            self.before.append(frame)
        return frame

    def send(self, observation):
        self.connection.send(serialization.serialise(observation))

    def infer(self, observation=OBSERVATION):
        self.send(observation)
        return self.receive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

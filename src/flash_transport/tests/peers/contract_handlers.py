"""What servers of the contract's tests are asked, and do."""

import numpy as np
from quic_peers import eventually

SHORT = 0.15
"""Seconds in which something does not happen."""


def observation(prompt="fold the towel"):
    return {
        "image": np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3),
        "state": np.arange(7, dtype=np.float32),
        "prompt": prompt,
    }


def echo(request):
    request.respond({"echo": request.observation})


class Held:
    """A handler that answers when it is told to."""

    def __init__(self):
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)

    def wait_for(self, count):
        eventually(lambda: len(self.requests) >= count)
        return self.requests[count - 1]


def failing(code, message="because"):
    return lambda request: request.fail(code, message)

"""Policies of one's own that replicas run in the tests with Ray; each request says what happens."""

import os
import signal
import time
from pathlib import Path

import numpy as np


class Sleeper:
    """Takes 20 ms for each request, and says where it ran and what it was given."""

    metadata = {"action_horizon": 3, "action_dim": 2}  # noqa: RUF012

    def __init__(self, checkpoint_dir=None, default_prompt=None):
        self.requests = 0

    def infer(self, observation):
        self.requests += 1
        if "started" in observation:
            Path(observation["started"]).touch()
        if "die" in observation:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(observation.get("seconds", 0.02)))
        image = observation.get("image")
        return {
            "actions": np.full((3, 2), float(observation.get("value", 0.0))),
            "process": os.getpid(),
            "requests": self.requests,
            "owns_image": image is not None and bool(image.flags.owndata),
            "sum": 0 if image is None else int(image[..., 0].sum(dtype=np.int64)),
        }


class Counter(Sleeper):
    """Keeps state: counts the requests since its episode began."""

    def reset(self):
        self.requests = 0

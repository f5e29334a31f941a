"""A policy of one's own that swings the demo's arm, for servers that a test starts and ends."""

from __future__ import annotations

import numpy as np

from sim_robot.robot import HOME, JOINTS

HORIZON, RATE_HZ, SPEED, BOUND = 100, 25.0, 0.5, 1.5


class Swing:
    """Moves the first joint back and forth; the rest stay."""

    def __init__(self):
        self._direction = 1.0

    def metadata(self):
        return {
            "action_horizon": HORIZON,
            "action_dim": len(JOINTS),
            "action_rate_hz": RATE_HZ,
            "action_names": list(JOINTS),
        }

    def infer(self, observation):
        here = observation["observation/state"][0]
        if abs(here) > BOUND:
            self._direction = -np.sign(here)
        actions = np.tile(np.asarray(HOME, np.float32), (HORIZON, 1))
        actions[:, 0] = here + self._direction * SPEED / RATE_HZ * np.arange(1, HORIZON + 1)
        return {"actions": actions}

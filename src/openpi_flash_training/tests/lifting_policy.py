"""A policy in poses of the hand: up by a centimetre a step, the gripper closed. Codec `ee`."""

from __future__ import annotations

import numpy as np

STEPS = 15


class Lift:
    def __init__(self):
        self.metadata = {"action_rate_hz": 15, "action_horizon": STEPS, "action_dim": 8}

    def infer(self, observation):
        state = np.asarray(observation["observation/state"], np.float64)
        actions = np.tile(state, (STEPS, 1))
        actions[:, 2] += 0.01 * np.arange(STEPS)
        actions[:, 7] = 1.0
        return {"actions": actions}

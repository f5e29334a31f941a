"""A policy of your own: waves an arm's wrist.

Replace the formula in `infer` by your model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

RATE_HZ = 25
STEPS = 50
SPEED = 0.5
"""rad/s"""
TURN_AT, FARTHEST = 0.35, 0.4
"""rad"""
JOINTS = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow",
    "wrist_pitch",
    "wrist_yaw",
    "wrist_roll",
    "gripper",
)


class Wave:
    """Answers each observation with 2 s of motion."""

    def __init__(self) -> None:
        self.metadata = {
            # what a request holds: clients resize images to it, and robots compare their joints
            "inputs": [
                {"path": ["observation/scene_image"], "kind": "image", "shape": [224, 224, 3]},
                {"path": ["observation/wrist_image"], "kind": "image", "shape": [224, 224, 3]},
                {
                    "path": ["observation/state"],
                    "kind": "joints",
                    "shape": [len(JOINTS)],
                    "names": JOINTS,
                    "units": ["rad"] * 6 + ["1"],
                },
                {"path": ["prompt"], "kind": "text", "required": False},
            ],
            # what the numbers of a chunk are: positions in rad, and a gripper's share of its range
            "actions": [
                *({"name": name} for name in JOINTS[:-1]),
                {"name": JOINTS[-1], "interface": "gripper", "unit": "1"},
            ],
            "action_rate_hz": RATE_HZ,
        }
        self.direction = 1.0

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The next chunk [50, 7]: the wrist turns towards one side, the rest stands."""
        state = np.asarray(observation["observation/state"], np.float64)
        wrist = JOINTS.index("wrist_yaw")
        if abs(state[wrist]) > TURN_AT:
            self.direction = -np.sign(state[wrist])
        actions = np.tile(state, (STEPS, 1))
        way = self.direction * SPEED * np.arange(STEPS) / RATE_HZ
        actions[:, wrist] = np.clip(state[wrist] + way, -FARTHEST, FARTHEST)
        return {"actions": actions}

    def reset(self) -> None:
        """A new episode begins: forgets what it remembers of the last."""
        self.direction = 1.0

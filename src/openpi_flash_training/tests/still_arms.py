"""A policy of two ALOHA arms that stay where they are; it keeps its gripper as it was measured.

Served as `python:still_arms:StillArms`, it shows that a picture and 14 joints arrive, and that
chunks of 14 columns are played.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from openpi_flash_models.robots.aloha import ALOHA

RATE_HZ, HORIZON = 50, 50


class StillArms:
    """Answers with where the arms are."""

    def __init__(self) -> None:
        self.metadata = {
            "inputs": [
                {"path": ["images", "cam_high"], "kind": "image", "shape": [224, 224, 3]},
                {
                    "path": ["state"],
                    "kind": "joints",
                    "shape": [14],
                    "names": list(ALOHA.action_names),
                    "units": ["rad"] * 6 + ["1"] + ["rad"] * 6 + ["1"],
                },
                {"path": ["prompt"], "kind": "text"},
            ],
            "actions": [
                {"name": name, "interface": "gripper", "unit": "1", "closed": 0.0, "open": 1.0}
                if name.endswith("gripper")
                else {"name": name}
                for name in ALOHA.action_names
            ],
            "action_rate_hz": RATE_HZ,
            "action_horizon": HORIZON,
        }

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The chunk [50, 14]."""
        state = np.asarray(observation["state"])
        picture = np.asarray(observation["images"]["cam_high"])
        # the server's warm-up has a black picture
        assert picture.shape == (224, 224, 3)
        return {"actions": np.tile(state, (HORIZON, 1))}

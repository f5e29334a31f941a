"""The policy that comes with the simulated robot: where its files are. `examples/sim_policy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "sim_policy"

CONFIG = "pi05_sim_cubes"
"""Its inference config."""

ROBOT_FILE = FOLDER / "sim_cubes.yaml"
"""Defines the config for a server."""

NODE_FILE = FOLDER / "node.yaml"
"""The parameters of the robot's node that plays it."""


@dataclass(frozen=True)
class ShippedPolicy:
    """Weights that were trained for this arm.

    Attributes:
        action: checkpoint that moves it.
        planner: checkpoint that says the subtask in words; None: there is none.
    """

    action: Path
    planner: Path | None


def shipped_policy() -> ShippedPolicy | None:
    """The policy, or None where its weights are not there: `weights/action`, `weights/planner`."""
    action, planner = FOLDER / "weights" / "action", FOLDER / "weights" / "planner"
    if not (action / "params").is_dir():
        return None
    return ShippedPolicy(action, planner if (planner / "params").is_dir() else None)

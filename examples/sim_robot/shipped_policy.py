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
    """The policy, or None where its weights are not there: `weights`, and `planner_weights`."""
    action, planner = FOLDER / "weights", FOLDER / "planner_weights"
    if not _is_checkpoint(action):
        return None
    return ShippedPolicy(action, planner if _is_checkpoint(planner) else None)


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "params").is_dir() or (folder / "model.safetensors").is_file()

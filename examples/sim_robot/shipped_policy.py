"""The policy that comes with the simulated robot: where its files are. `examples/sim_policy`."""

from __future__ import annotations

import json
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
        planner: checkpoint that says the subtask in words, perhaps the same; None: there is none.
    """

    action: Path
    planner: Path | None


def shipped_policy() -> ShippedPolicy | None:
    """The policy, or None where its weights are not there."""
    weights = FOLDER / "weights"
    return policy_in(weights) if _is_checkpoint(weights) else None


def policy_in(checkpoint: Path) -> ShippedPolicy:
    """The policy of a checkpoint of `openpi-flash train`, which is its planner if it learnt to."""
    return ShippedPolicy(checkpoint, checkpoint if _says_subtasks(checkpoint) else None)


def _says_subtasks(checkpoint: Path) -> bool:
    settings = checkpoint / "assets" / "training.json"
    if not settings.is_file():
        return False
    return json.loads(settings.read_text()).get("data", {}).get("subtask") is not None


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "params").is_dir() or (folder / "model.safetensors").is_file()

"""A small checkpoint in openpi's layout, so that everything runs without a download.

    <directory>/action/    pi0.5 for the simulated arm (config ``pi05_sim_arm``): moves it smoothly
    <directory>/planner/   pi0.5 that generates random words

Written by formula in a second, always the same, a few MB. How: ``demo/``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from openpi_flash_models.checkpoints.orbax import write_leaves
from openpi_flash_models.demo.action_weights import Weights, action_weights
from openpi_flash_models.demo.planner_weights import planner_weights
from openpi_flash_models.demo.tokenizer import tokenizer_model
from openpi_flash_models.text.tokenizer import FILE_NAME

ASSET_ID = "sim_arm"
# The box that the demo's actions stay in, in the units of the arm: middle and half width.
_MIDDLE = np.array([0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.5])
_HALF_WIDTH = np.array([0.8, 0.4, 0.4, 0.5, 0.5, 0.6, 0.5])


def write_demo_checkpoint(directory: Path) -> None:
    """Write both checkpoints.

    Args:
        directory: gets ``action/`` and ``planner/``, which must not hold checkpoints yet.

    Raises:
        CheckpointError: the directory holds a checkpoint already.
    """
    _write(directory / "action", action_weights())
    _write_norm_stats(directory / "action" / "assets" / ASSET_ID / "norm_stats.json")
    _write(directory / "planner", planner_weights())


def _write_norm_stats(file: Path) -> None:
    """Statistics that map the box to [-1, 1], for the state and for the actions."""
    box = {
        "mean": _MIDDLE.tolist(),
        "std": (_HALF_WIDTH / 2).tolist(),
        "q01": (_MIDDLE - _HALF_WIDTH).tolist(),
        "q99": (_MIDDLE + _HALF_WIDTH).tolist(),
    }
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"norm_stats": {"state": box, "actions": box}}, indent=2) + "\n")


def _write(checkpoint: Path, weights: Weights) -> None:
    leaves = {tuple(name.split("/")): values for name, values in weights.items()}
    write_leaves(checkpoint / "params", leaves)
    (checkpoint / FILE_NAME).write_bytes(tokenizer_model())

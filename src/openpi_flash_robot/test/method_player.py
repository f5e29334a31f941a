"""A player of each chunk method, with limits that random chunks meet."""

import dataclasses

import numpy as np
import pytest
from played_curves import MS

from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.splice.methods import CHUNK_METHODS
from openpi_flash_robot.settings.node_settings import PlayerSettings

STEP, HORIZON = 40 * MS, 30
METHODS = sorted(CHUNK_METHODS)
JOINTS = ("shoulder", "elbow", "gripper")
GRIPPERS = (False, False, True)
SETTINGS = PlayerSettings(
    chunk_method="latest",
    ensemble_decay=0.01,
    max_chunk_age_ns=0,
    blend_ns=100 * MS,
    max_start_delta=(9.0, 9.0, 9.0),
    max_tracking_error=(0.1, 0.1, 0.0),
    max_velocity=(1.0, 0.5, 2.0),
    max_acceleration=(10.0, 5.0, 40.0),
    position_lower=(-1.0, -1.0, 0.0),
    position_upper=(1.0, 1.0, 1.0),
    lead_ns=40 * MS,
    is_commanded=True,
    execution_horizon=8,
)
REST = np.zeros(3)
each_method = pytest.mark.parametrize("method", METHODS)


def player(method, **changes):
    return ChunkPlayer(JOINTS, dataclasses.replace(SETTINGS, chunk_method=method, **changes))


def chunk(actions, observed, sequence):
    return Chunk(actions, STEP, observed, sequence, GRIPPERS)


def random_actions(seed):
    """Steps that wander off, and a gripper that opens and closes."""
    rng = np.random.default_rng(seed)
    actions = np.cumsum(rng.normal(scale=0.05, size=(HORIZON, 3)), axis=0)
    actions[:, 2] = rng.integers(0, 2, HORIZON)
    return actions

"""A chunk player in virtual time, and chunks for it."""

import dataclasses

import numpy as np

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.settings.node_settings import PlayerSettings

MS = 1_000_000
STEP = 20 * MS
JOINTS = ("shoulder", "elbow")
REST = np.zeros(2)
SETTINGS = PlayerSettings(
    chunk_method="latest",
    ensemble_decay=0.0,
    max_chunk_age_ns=0,
    blend_ns=100 * MS,
    max_start_delta=(0.5, 0.5),
    max_tracking_error=(0.1, 0.1),
    max_velocity=(1.0, 2.0),
    max_acceleration=(5.0, 10.0),
    position_lower=(-2.0, -2.0),
    position_upper=(2.0, 2.0),
    lead_ns=40 * MS,
    is_commanded=True,
)
LEAD = SETTINGS.lead_ns
NEAR = {"atol": 1e-6}
"""A path without corners is kept to."""
SLOW = np.array([0.01, 0.02])


def ramp(*, steps=50, slope=SLOW, start=REST):
    """Actions [steps, 2] that move by `slope` per step."""
    return start + np.arange(1, steps + 1)[:, np.newaxis] * slope


def chunk(actions=None, *, observed=0, sequence=1, step=STEP):
    return Chunk(ramp() if actions is None else actions, step, observed, sequence)


def player(**changes):
    return ChunkPlayer(JOINTS, dataclasses.replace(SETTINGS, **changes))


def running_player(**changes):
    """A player in the middle of a slow ramp, observed at 0, accepted at 40 ms."""
    playing = player(**changes)
    assert isinstance(playing.accept(chunk(), now=40 * MS, measured=REST), Plan)
    return playing


def held_player(at):
    """A player that was told to hold, and the moment from which on it rests."""
    playing = running_player()
    playing.hold(Hold(HoldKind.REQUESTED, "held"), at)
    return playing, playing.motion.end_ns

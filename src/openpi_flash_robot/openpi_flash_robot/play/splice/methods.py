"""The chunk methods by name. A new one is a file beside this one, and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from openpi_flash_robot.play.splice.aggregate import aggregate
from openpi_flash_robot.play.splice.border import Border, Steps
from openpi_flash_robot.play.splice.ensemble import join_ensemble
from openpi_flash_robot.play.splice.fade import take_newest


class RunningChunk(Enum):
    """What a request says of the running chunk."""

    UNTOLD = auto()
    """Nothing."""
    GUIDES = auto()
    """The new chunk is guided towards it."""
    IS_PREFIX = auto()
    """Its steps that will have been played are known to the model."""


@dataclass(frozen=True)
class ChunkMethod:
    """How a chunk goes on from those before it.

    Attributes:
        join: where the steps after a border should be, of a robot that moves; from a hold they
            are the new chunk's. What `join` says of a gripper is ignored.
        running_chunk: what a request says of the running chunk.
        is_played_out: whether a new chunk waits until the running one has been played to its
            execution horizon, instead of taking over as soon as it has come.
        is_faded: whether what was commanded before is faded into the steps.
    """

    join: Callable[[Border], Steps]
    running_chunk: RunningChunk = RunningChunk.UNTOLD
    is_played_out: bool = False
    is_faded: bool = True


CHUNK_METHODS: Mapping[str, ChunkMethod] = {
    "latest": ChunkMethod(take_newest),
    "open_loop": ChunkMethod(take_newest, is_played_out=True),
    "temporal_ensemble": ChunkMethod(join_ensemble),
    "latest_only": ChunkMethod(take_newest, is_faded=False),
    "weighted_average": ChunkMethod(aggregate(0.7)),
    "average": ChunkMethod(aggregate(0.5)),
    "conservative": ChunkMethod(aggregate(0.3)),
    "rtc": ChunkMethod(take_newest, RunningChunk.GUIDES),
    "rtc_prefix": ChunkMethod(take_newest, RunningChunk.IS_PREFIX),
}

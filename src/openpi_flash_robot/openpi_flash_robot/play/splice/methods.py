"""The chunk methods by name. A new one is a file beside this one, and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from openpi_flash_robot.play.splice.aggregate import aggregate
from openpi_flash_robot.play.splice.border import Border, Steps
from openpi_flash_robot.play.splice.ensemble import join_ensemble
from openpi_flash_robot.play.splice.fade import join_latest
from openpi_flash_robot.play.splice.rtc import join_continuation


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
        join: where the steps after a border should be, of a robot that moves. From a hold every
            method fades the new chunk in. What `join` says of a gripper is ignored.
        running_chunk: what a request says of the running chunk.
        is_played_out: whether a new chunk waits until the running one has been played to its
            execution horizon, instead of taking over as soon as it has come.
    """

    join: Callable[[Border], Steps]
    running_chunk: RunningChunk = RunningChunk.UNTOLD
    is_played_out: bool = False


CHUNK_METHODS: Mapping[str, ChunkMethod] = {
    "latest": ChunkMethod(join_latest),
    "open_loop": ChunkMethod(join_latest, is_played_out=True),
    "temporal_ensemble": ChunkMethod(join_ensemble),
    "latest_only": ChunkMethod(aggregate(1.0)),
    "weighted_average": ChunkMethod(aggregate(0.7)),
    "average": ChunkMethod(aggregate(0.5)),
    "conservative": ChunkMethod(aggregate(0.3)),
    "rtc": ChunkMethod(join_continuation, RunningChunk.GUIDES),
    "rtc_prefix": ChunkMethod(join_continuation, RunningChunk.IS_PREFIX),
}

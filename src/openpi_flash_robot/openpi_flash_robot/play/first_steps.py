"""The first steps of a chunk that are played before its rest has come."""

from __future__ import annotations

from dataclasses import dataclass

from openpi_flash_robot.play.splice.timed_chunk import TimedChunk


@dataclass(frozen=True, eq=False)
class FirstSteps:
    """First steps that run, and what the whole chunk goes on from in their place.

    The whole chunk is joined to the chunks before its first steps: what it says must not count
    twice.

    Attributes:
        sequence: of the chunk.
        recent: the chunks before, oldest first, since the robot last held.
        joined: the one that ran before, as its method joined it; None if the robot held.
        takeover_ns: when the first steps took over where their method plays chunks out; else None.
    """

    sequence: int
    recent: tuple[TimedChunk, ...]
    joined: TimedChunk | None
    takeover_ns: int | None

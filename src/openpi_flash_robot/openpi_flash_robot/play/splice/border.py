"""Where a new chunk meets those before it: all that a chunk method may look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.splice.timed_chunk import TimedChunk

Steps = NDArray[np.float64]
"""Where the joints should be at each step, [K, N], rad or m."""


@dataclass(frozen=True, eq=False)
class Border:
    """A new chunk, and what it takes over from.

    Attributes:
        due_ns: when each step of the new chunk behind the border is due, int64 [K]; K >= 1.
        own: the new chunk's own values of these steps, [K, N].
        recent: the chunks as the policy gave them, oldest first, since the robot last held; the
            last one is the new one.
        joined: the running chunk as its method joined it; None if the robot holds.
        decay: of the weights of `temporal_ensemble`, per chunk.
    """

    due_ns: NDArray[np.int64]
    own: Steps
    recent: Sequence[TimedChunk]
    joined: TimedChunk | None
    decay: float

"""A plan: where every joint is commanded to be, as straight lines between points in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Plan:
    """What a chunk has become after splicing and limits. The first point is where it began.

    Attributes:
        times_ns: when each point is due on the ROS clock, int64 [K], strictly increasing.
        positions: float64 [K, N], rad or m.
        step_ns: spacing of the chunk's steps.
        start_ns: when step 0 of the chunk is, or was, due.
        first_step: steps before this one were dropped, because they had passed.
        observation_ns: stamp of the oldest input behind it.
        sequence: of the chunk.
        limited_steps: how many points a limit has changed.
    """

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    step_ns: int
    start_ns: int
    first_step: int
    observation_ns: int
    sequence: int
    limited_steps: int

    @property
    def end_ns(self) -> int:
        """When the last point is due; after that the robot holds."""
        return int(self.times_ns[-1])

    def sample(self, at_ns: int) -> NDArray[np.float64]:
        """Positions [N] at a moment; before the first point the first, after the last the last."""
        after = int(np.searchsorted(self.times_ns, at_ns, side="right"))
        left = self.positions[max(after - 1, 0)]
        right = self.positions[min(after, len(self.positions) - 1)]
        share = 0.0
        if 0 < after < len(self.times_ns):
            before_ns, after_ns = int(self.times_ns[after - 1]), int(self.times_ns[after])
            share = (at_ns - before_ns) / (after_ns - before_ns)
        sampled: NDArray[np.float64] = left + share * (right - left)
        return sampled

    def steps_after(self, at_ns: int) -> int:
        """How many points are still ahead."""
        return len(self.times_ns) - int(np.searchsorted(self.times_ns, at_ns, side="right"))

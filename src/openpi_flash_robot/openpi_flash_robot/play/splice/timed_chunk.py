"""A chunk as the policy gave it, on the clock: what later chunks are spliced with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TimedChunk:
    """The raw steps of a chunk, before fading and limits.

    Attributes:
        actions: float64 [H, N], rad or m.
        start_ns: when step 0 is, or was, due.
        step_ns: spacing of the steps.
    """

    actions: NDArray[np.float64]
    start_ns: int
    step_ns: int

    @property
    def end_ns(self) -> int:
        """When the last step is due."""
        return self.start_ns + (len(self.actions) - 1) * self.step_ns

    def covers(self, moments_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each moment lies between the first and the last step, [K]."""
        covered: NDArray[np.bool_] = (moments_ns >= self.start_ns) & (moments_ns <= self.end_ns)
        return covered

    def at(self, moments_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """The steps at moments, [K, N]: on the line between two steps, at the ends the last one."""
        steps = np.clip((moments_ns - self.start_ns) / self.step_ns, 0.0, len(self.actions) - 1)
        before = np.minimum(steps.astype(np.int64), max(len(self.actions) - 2, 0))
        after = np.minimum(before + 1, len(self.actions) - 1)
        share = (steps - before)[:, np.newaxis]
        values: NDArray[np.float64] = (1.0 - share) * self.actions[before] + share * self.actions[
            after
        ]
        return values

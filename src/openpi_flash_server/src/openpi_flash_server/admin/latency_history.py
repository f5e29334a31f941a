"""The last latencies of a session or a slot. Pure."""

from __future__ import annotations

import math
from collections import deque

KEPT = 120
"""Requests that a sparkline shows."""
RATE_SPAN = 10.0
"""s over which a rate is counted."""


class LatencyHistory:
    """The last answers: when, and how long they took.

    Args:
        kept: how many.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._answers: deque[tuple[float, float]] = deque(maxlen=kept)

    def add(self, at: float, ms: float) -> None:
        """An answer at `at` (monotonic s) took `ms`."""
        self._answers.append((at, ms))

    @property
    def ms(self) -> list[float]:
        """The latencies, the oldest first."""
        return [ms for _, ms in self._answers]

    def percentile(self, part: float) -> float | None:
        """The latency that this part of the answers does not exceed; None without answers."""
        ordered = sorted(self.ms)
        if not ordered:
            return None
        return ordered[max(0, math.ceil(part * len(ordered)) - 1)]

    def rate_hz(self, now: float) -> float:
        """Answers a second over the last `RATE_SPAN` s, or as far as the history reaches."""
        recent = [at for at, _ in self._answers if at > now - RATE_SPAN]
        if not recent:
            return 0.0
        is_cut = len(recent) == self._answers.maxlen
        span = now - recent[0] if is_cut else RATE_SPAN
        return len(recent) / max(span, 0.001)

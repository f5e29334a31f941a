"""The clock for waiting. Tests pass one that only moves when they say so."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["MONOTONIC", "Clock"]


class Clock(Protocol):
    """Tells the time, and waits."""

    def now(self) -> float:
        """Seconds since some moment; never goes back."""

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        """Waits until `condition`, which the caller holds, is notified, or until the time `until`.

        May return earlier, as `threading.Condition.wait` may.
        """


class _MonotonicClock:
    def now(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        condition.wait(None if until is None else max(0.0, until - time.monotonic()))


MONOTONIC: Clock = _MonotonicClock()

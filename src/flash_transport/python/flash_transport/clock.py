"""The clock that threads wait by. Tests pass one that stands still until they move it."""

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
        """Waits for a notification of `condition`, which is held, or for the moment `until`.

        May return earlier, as `threading.Condition.wait` may.
        """


class _MonotonicClock:
    def now(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        condition.wait(None if until is None else max(0.0, until - time.monotonic()))


MONOTONIC: Clock = _MonotonicClock()

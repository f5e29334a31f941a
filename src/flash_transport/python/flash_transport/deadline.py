"""Points in time, of the machine's monotonic clock."""

from __future__ import annotations

import math
import time
from typing import Any

__all__ = ["Deadline"]


class Deadline:
    """A point in time, or never.

    Args:
        seconds: from now; None and infinity are never.

    Raises:
        ValueError: a time that is none.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"timeout must be a number of seconds from 0 up, got {seconds}")
        self._seconds = None if seconds == math.inf else seconds
        self._start = time.monotonic()

    @property
    def is_never(self) -> bool:
        """Whether there is no end."""
        return self._seconds is None

    def left(self, forever: float | None = None) -> Any:
        """Seconds left, at least 0; `forever` where there is no end."""
        if self._seconds is None:
            return forever
        return max(0.0, self._start + self._seconds - time.monotonic())

    def at_most(self, seconds: float) -> Deadline:
        """This, or `seconds` from now, whichever is earlier."""
        left = self.left(forever=seconds)
        return self if left < seconds else Deadline(seconds)

    def __str__(self) -> str:
        return f"{self._seconds:g} s"

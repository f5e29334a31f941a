"""Time limits. Pure: the caller passes the time."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["NEVER", "Deadline"]


@dataclass(frozen=True)
class Deadline:
    """A moment, or never.

    Attributes:
        seconds: length of the limit, as messages show it; None means no limit.
        at: the moment, in seconds of the clock that the caller uses; None means no limit.
    """

    seconds: float | None
    at: float | None

    @classmethod
    def after(cls, seconds: float | None, now: float) -> Deadline:
        """The moment `seconds` after `now`; None and infinity mean never.

        Raises:
            ValueError: `seconds` is negative or not a number.
        """
        if seconds is None or seconds == math.inf:
            return NEVER
        if not seconds >= 0:
            raise ValueError(f"timeout must be a number of seconds from 0 up, got {seconds}")
        return cls(seconds, now + seconds)

    @property
    def is_never(self) -> bool:
        """Whether there is no limit."""
        return self.at is None

    def is_over(self, now: float) -> bool:
        """Whether the moment has come."""
        return self.at is not None and self.at <= now

    def left(self, now: float) -> float | None:
        """Seconds left, at least 0; None if there is no limit."""
        return None if self.at is None else max(0.0, self.at - now)

    def at_most(self, seconds: float, now: float) -> Deadline:
        """This deadline, or `seconds` after `now`, whichever is earlier."""
        return self if self.at is not None and self.at < now + seconds else self.after(seconds, now)

    def __str__(self) -> str:
        return "any time" if self.seconds is None else f"{self.seconds:g} s"


NEVER = Deadline(None, None)

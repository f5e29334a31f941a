"""What each SIGTERM or SIGINT means to a server. Pure: the time is an argument.

`timeout -s TERM` signals the process and its group, and a terminal and a supervisor may both pass
on the same Ctrl-C: two signals in quick succession are one request to stop. A later one asks to
stop at once.
"""

from __future__ import annotations

import enum

REPEAT = 0.5
"""s after the first signal in which another one counts as the same."""


class Meaning(enum.Enum):
    """The action that a signal asks for."""

    DRAIN = enum.auto()
    """Answer accepted requests, then stop."""
    NOTHING = enum.auto()
    """It repeats the one before."""
    END_NOW = enum.auto()
    """Stop without waiting for anything."""


class StopSignals:
    """The signals of one process, from its start on."""

    def __init__(self) -> None:
        self._first: float | None = None

    def received(self, now: float) -> Meaning:
        """The meaning of the signal that came at `now` (monotonic s)."""
        if self._first is None:
            self._first = now
            return Meaning.DRAIN
        return Meaning.NOTHING if now - self._first < REPEAT else Meaning.END_NOW

"""What each SIGTERM or SIGINT means to a server. Pure: the time is an argument.

`timeout -s TERM` signals the process and its group, a terminal and a supervisor may both pass on
the same Ctrl-C: two signals within moments are one wish. A later one is a person who has waited
long enough.
"""

from __future__ import annotations

import enum

REPEAT = 0.5
"""s after the first signal in which another one is the same wish."""


class Meaning(enum.Enum):
    """What a signal asks for."""

    DRAIN = enum.auto()
    """Answer what was accepted, then stop."""
    NOTHING = enum.auto()
    """It repeats the one before."""
    END_NOW = enum.auto()
    """Stop without waiting for anything."""


class StopSignals:
    """The signals of one process, from its start on."""

    def __init__(self) -> None:
        self._first: float | None = None

    def received(self, now: float) -> Meaning:
        """What the signal that came at `now` (monotonic s) asks for."""
        if self._first is None:
            self._first = now
            return Meaning.DRAIN
        return Meaning.NOTHING if now - self._first < REPEAT else Meaning.END_NOW

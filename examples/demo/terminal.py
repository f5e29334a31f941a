"""What the demo shows while it runs: a line that changes in place, or lines now and then."""

from __future__ import annotations

import shutil
from typing import TextIO

SECONDS_BETWEEN_LINES = 5.0
"""Where the terminal cannot change a line in place."""

CLEAR_LINE = "\r\x1b[2K"


class Terminal:
    """Writes lasting lines, and one live line below them.

    Args:
      stream: where to write.
      in_place: whether the live line may be written over; else it becomes a line every few seconds.
    """

    def __init__(self, stream: TextIO, *, in_place: bool) -> None:
        self._stream = stream
        self._in_place = in_place
        self._live_is_shown = False
        self._last_live = float("-inf")

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear_live()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def live(self, text: str, now: float) -> None:
        """Show the state of things; `now` in seconds decides whether a line is due."""
        if self._in_place:
            width = shutil.get_terminal_size((100, 24)).columns - 1
            self._stream.write(f"{CLEAR_LINE}{text[:width]}")
            self._live_is_shown = True
        elif now - self._last_live >= SECONDS_BETWEEN_LINES:
            self._last_live = now
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear_live(self) -> None:
        """Take the live line away, so that others can write."""
        if self._live_is_shown:
            self._stream.write(CLEAR_LINE)
            self._stream.flush()
            self._live_is_shown = False

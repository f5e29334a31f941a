"""Shows the progress of a download."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

_BAR = 24


class Progress:
    """Counts received bytes, and prints a line about them.

    On a terminal the line is redrawn in place; elsewhere a new one is written now and then.
    """

    def __init__(self, name: str, total: int | None, stream: TextIO | None = None) -> None:
        self._name, self._total = name, total
        self._stream = stream if stream is not None else sys.stderr
        self._is_terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._done = self._from_disk = 0
        self._started = time.monotonic()
        self._shown = self._started if not self._is_terminal else 0.0

    def add(self, count: int) -> None:
        """Bytes came in (or, negative, were thrown away)."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._shown >= (0.2 if self._is_terminal else 10.0):
                self._shown = now
                self._draw(now)

    def skip(self, count: int) -> None:
        """Bytes were there already."""
        with self._lock:
            self._done += count
            self._from_disk += count

    def finish(self) -> None:
        """Draw the last state."""
        with self._lock:
            self._draw(time.monotonic())
            if self._is_terminal:
                self._stream.write("\n")
                self._stream.flush()

    def _draw(self, now: float) -> None:
        line = describe(self._name, self._done, self._total, self._rate(now))
        self._stream.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        self._stream.flush()

    def _rate(self, now: float) -> float:
        return max(0.0, (self._done - self._from_disk) / max(now - self._started, 1e-3))


def describe(name: str, done: int, total: int | None, rate: float) -> str:
    """One line: a bar, how much of how much, bytes per second."""
    speed = f"{size(int(rate))}/s"
    if not total:
        return f"{name}  {size(done)}  {speed}"
    filled = int(_BAR * min(done / total, 1.0))
    bar = "#" * filled + "." * (_BAR - filled)
    return f"{name}  [{bar}] {size(done)} of {size(total)}  {speed}"


def size(count: int) -> str:
    """Bytes in the unit that people read them in."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"

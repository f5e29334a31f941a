"""Single keys from a terminal, without waiting for Enter; nothing where there is no terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any


class Keyboard:
    """Reads what has been typed. While it is open, the terminal echoes nothing."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._input: int | None = None

    def __enter__(self) -> Keyboard:
        if sys.stdin.isatty():
            self._input = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._input)
            tty.setcbreak(self._input)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._input is not None and self._before is not None:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    @property
    def is_open(self) -> bool:
        """Whether there is a terminal."""
        return self._input is not None

    def typed(self) -> str:
        """The keys since the last call; does not wait."""
        if self._input is None or not select.select([self._input], [], [], 0)[0]:
            return ""
        return os.read(self._input, 64).decode(errors="ignore")

"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or probably not meant.

    Attributes:
        level: an error makes training fail or learn something false; a warning is to be looked at.
        check: name of the check: ``idle``, ``frozen images``.
        message: the thing, its value, and what to do.
        episode: index; None where no single episode is at fault.
    """

    level: Level
    check: str
    message: str
    episode: int | None = None

    def __str__(self) -> str:
        where = "" if self.episode is None else f"episode {self.episode}: "
        return f"{self.level}: {self.check}: {where}{self.message}"


def shortened(items: list[int], most: int = 8) -> str:
    """Numbers of episodes in words: ``0, 3, 4 and 17 more``."""
    shown = ", ".join(map(str, items[:most]))
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"

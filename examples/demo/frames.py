"""Keeps a few pictures of each camera, spread over the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Frame:
    """One picture."""

    camera: str
    time: float
    """Seconds since the run began."""
    pixels: NDArray[np.uint8]
    """RGB, [height, width, 3]."""

    @property
    def file_name(self) -> str:
        """Sorts by time, then camera: "03.2s_scene.png"."""
        return f"{self.time:04.1f}s_{self.camera}.png"


class FrameKeeper:
    """Decides which pictures are kept: of each camera the first one in every interval.

    Args:
      seconds: the length of the run.
      count: pictures per camera.
    """

    def __init__(self, seconds: float, count: int) -> None:
        self._interval = seconds / count
        self._next: dict[str, float] = {}

    def wants(self, camera: str, time: float) -> bool:
        """Return whether the picture taken at this time is to be kept; ask once for each."""
        due = self._next.get(camera, 0.0)
        if time < due:
            return False
        self._next[camera] = (time // self._interval + 1) * self._interval
        return True


def save_frames(frames: list[Frame], folder: Path) -> None:
    """Write pictures as PNG files, in place of those of an earlier run."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*s_*.png"):
        old.unlink()
    for frame in frames:
        Image.fromarray(frame.pixels).save(folder / frame.file_name)

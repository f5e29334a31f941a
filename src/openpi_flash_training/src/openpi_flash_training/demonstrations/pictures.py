"""What the cameras show, letterboxed into a square by the function that a robot's link uses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType

import mujoco
import numpy as np
from numpy.typing import NDArray

from flash_transport import resize_with_pad
from sim_robot.plant import Snapshot
from sim_robot.robot import CAMERAS

Image = NDArray[np.uint8]

CAMERA_SIZE = (320, 240)
"""Width and height of the robot's cameras, pixels."""


class Pictures:
    """Draws the cameras of one plant. Make, use and close it in one thread.

    Args:
        model: of the plant.
        image_size: edge of the square, pixels; None leaves pictures in the cameras' own size.
    """

    def __init__(self, model: mujoco.MjModel, image_size: int | None) -> None:
        # two cameras fill one core at most: more of Mesa's threads would take the others' time
        os.environ.setdefault("LP_NUM_THREADS", "1")
        from sim_robot.cameras import Cameras

        self._size = image_size
        width, height = CAMERA_SIZE
        self._cameras = Cameras(model, width=width, height=height)

    def take(self, snapshot: Snapshot) -> dict[str, Image]:
        """The picture of each camera, uint8 RGB, [S, S, 3] or [240, 320, 3]."""
        drawn = self._cameras.render(snapshot)
        if self._size is None:
            return drawn
        size = self._size
        return {
            name: np.asarray(resize_with_pad(image, size, size)) for name, image in drawn.items()
        }

    def take_all(self, snapshots: Sequence[Snapshot]) -> dict[str, Image]:
        """The pictures of each camera at several instants, uint8 RGB, [T, S, S, 3]."""
        drawn = [self.take(snapshot) for snapshot in snapshots]
        return {name: np.stack([each[name] for each in drawn]) for name in CAMERAS}

    def close(self) -> None:
        """Give OpenGL back."""
        self._cameras.close()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

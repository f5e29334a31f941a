"""Where a point of the world is in a camera's picture. Pure.

Pixels count from the middle of the upper left one: x to the right, y down. A picture of another
shape than a square is letterboxed into one as the robot does it before it sends it: scaled, and
padded with black to both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CameraView:
    """A pinhole camera, as MuJoCo has it.

    Attributes:
        position: of its centre, world, m, [3].
        axes: its right, its up and its backward, in columns, world, [3, 3].
        fovy: angle from the upper to the lower edge, rad.
        width: pixels.
        height: pixels.
    """

    position: Array
    axes: Array
    fovy: float
    width: int
    height: int

    def pixels_of(self, points: Array) -> tuple[Array, Array]:
        """Pixels and depth of points.

        Args:
            points: world, m, [N, 3].

        Returns:
            Pixels x, y, [N, 2], and depth along the camera's axis, m, [N]; what is behind the
            camera has a depth that is not positive and pixels without a meaning.
        """
        local = (points - self.position) @ self.axes
        depth = -local[:, 2]
        focal = self.height / (2.0 * math.tan(self.fovy / 2.0))
        safe = np.where(np.abs(depth) > 1e-9, depth, 1e-9)
        x = (self.width - 1) / 2.0 + focal * local[:, 0] / safe
        y = (self.height - 1) / 2.0 - focal * local[:, 1] / safe
        return np.stack([x, y], axis=1), depth

    def is_inside(self, pixels: Array, depth: Array) -> NDArray[np.bool_]:
        """Which points are in the picture, [N]."""
        x, y = pixels[:, 0], pixels[:, 1]
        inside_x = (x >= -0.5) & (x < self.width - 0.5)
        return (depth > 0) & inside_x & (y >= -0.5) & (y < self.height - 0.5)


def letterboxed(pixels: Array, width: int, height: int, size: int) -> Array:
    """Pixels [N, 2] of a picture in the square of `size` pixels that it is letterboxed into."""
    scale = size / max(width, height)
    padding = (size - np.array([width, height]) * scale) / 2.0
    return (pixels + 0.5) * scale + padding - 0.5


def patch_of(pixels: Array, size: int, patch: int) -> NDArray[np.int64]:
    """The patch that holds each pixel of a square picture, row by row, [N]; -1: outside.

    Args:
        pixels: [N, 2].
        size: of the picture, pixels.
        patch: edge of a patch, pixels.
    """
    count = size // patch
    columns = np.floor((pixels + 0.5) / patch).astype(np.int64)
    inside = np.all((columns >= 0) & (columns < count), axis=1)
    return np.where(inside, columns[:, 1] * count + columns[:, 0], -1)

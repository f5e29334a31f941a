"""Which shapes are images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flash_transport.errors import ImageError

__all__ = ["ImageShape", "check_size", "shape_of"]

MAX_SIDE = 1 << 16


@dataclass(frozen=True)
class ImageShape:
    """The shape of RGB images: rows of pixels, or three planes."""

    height: int
    width: int
    is_planes: bool


def shape_of(image: Any) -> ImageShape:
    """The last three sizes count: a last one of 3 means rows of pixels, else a first one planes.

    Raises:
        ImageError: no array of uint8 or float32 of such a shape.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image is {type(image).__qualname__}, expected a numpy array")
    checked: NDArray[Any] = image
    if checked.dtype not in (np.uint8, np.float32):
        raise ImageError(f"image has dtype {checked.dtype}, expected uint8 or float32")
    shape = checked.shape
    if len(shape) >= 3 and shape[-1] == 3:
        found = ImageShape(shape[-3], shape[-2], is_planes=False)
    elif len(shape) >= 3 and shape[-3] == 3:
        found = ImageShape(shape[-2], shape[-1], is_planes=True)
    else:
        raise ImageError(
            f"image has shape {list(shape)}, expected [..., height, width, 3] or "
            "[..., 3, height, width]"
        )
    check_size(found.height, found.width)
    return found


def check_size(height: int, width: int) -> None:
    """Refuses an image without pixels, and one that no camera takes.

    Raises:
        ImageError: says the size.
    """
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(
            f"image is {height} rows by {width} columns, expected from 1 to {MAX_SIDE} of each"
        )

"""openpi's `resize_with_pad` in numpy, bit for bit what it does with PIL.

PIL's bilinear filter is a triangle as wide as the reduction, in 22-bit fixed point, columns first
and then rows, each rounded to a byte.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from flash_transport.errors import ImageError
from flash_transport.pure.shapes import check_size, shape_of

__all__ = ["resize_with_pad"]

PRECISION_BITS = 22


def resize_with_pad(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Fit an image into the given size, black around it, as openpi's client does with PIL.

    Args:
        image: uint8 `[height, width, 3]` or `[3, height, width]`; a last size of 3 decides.
        height: rows of the result.
        width: columns of the result.

    Returns:
        An image of the same layout, or `image` itself where it has the size already.

    Raises:
        ImageError: another shape or dtype.
    """
    shape = shape_of(image)
    check_size(height, width)
    if (shape.height, shape.width) == (height, width):
        return image
    # openpi's arithmetic to the letter: sizes and offsets are cut off, not rounded
    ratio = max(shape.width / width, shape.height / height)
    fit_height, fit_width = int(shape.height / ratio), int(shape.width / ratio)
    if fit_height == 0 or fit_width == 0:
        raise ImageError(
            f"image of {shape.height} rows by {shape.width} columns is too thin to fit into "
            f"{height} by {width}: not one pixel is left of its short side"
        )
    top, left = max(0, height - fit_height) // 2, max(0, width - fit_width) // 2
    fit_height, fit_width = min(fit_height, height), min(fit_width, width)
    planes = image if shape.is_planes else image.transpose(2, 0, 1)
    # columns first, with the pixels of a column beside each other, so that sums run along memory
    turned = _resampled(planes.transpose(2, 0, 1), fit_width)  # [width, 3, height]
    resized = _resampled(turned.transpose(2, 1, 0), fit_height)  # [height, 3, width]
    out = np.zeros((3, height, width) if shape.is_planes else (height, width, 3), np.uint8)
    window = out if shape.is_planes else out.transpose(2, 0, 1)
    window[:, top : top + fit_height, left : left + fit_width] = resized.transpose(1, 0, 2)
    return out


def _resampled(lines: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """`size` weighted sums of the lines, which are the first axis."""
    if len(lines) == size:
        return lines
    lines = np.ascontiguousarray(lines)
    total = np.full((size, *lines.shape[1:]), 1 << (PRECISION_BITS - 1), np.int32)
    for places, weights in _triangle(len(lines), size):
        total += lines[places] * weights
    total >>= PRECISION_BITS
    return np.minimum(total, 255).astype(np.uint8)


@functools.lru_cache(maxsize=32)
def _triangle(size: int, target: int) -> tuple[tuple[NDArray[np.intp], NDArray[np.int32]], ...]:
    """What to sum up: lines, one for each of the target, and their weights `[target, 1, 1]`."""
    scale = size / target
    support = max(scale, 1.0)
    center = (np.arange(target) + 0.5) * scale
    start = np.maximum(0, (center - support + 0.5).astype(np.intp))
    end = np.minimum(size, (center + support + 0.5).astype(np.intp))
    places = start[:, None] + np.arange((end - start).max())
    distance = np.abs((places - center[:, None] + 0.5) / support)
    triangle = np.where(places < end[:, None], np.maximum(0.0, 1.0 - distance), 0.0)
    fixed = triangle / triangle.sum(1, keepdims=True) * (1 << PRECISION_BITS)
    weights = (fixed + 0.5).astype(np.int32)
    # beyond the last line the weight is 0
    places = np.minimum(places, size - 1)
    return tuple((places[:, k], weights[:, k, None, None]) for k in range(places.shape[1]))

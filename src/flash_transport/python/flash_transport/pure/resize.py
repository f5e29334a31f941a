"""openpi's `resize_with_pad` in numpy: bytes bit for bit as with PIL, floats as with JAX.

PIL's bilinear filter is a triangle as wide as the reduction, in 22-bit fixed point, columns first
and then rows, each rounded to a byte.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flash_transport.errors import ImageError
from flash_transport.pure.shapes import check_size, shape_of

__all__ = ["resize_with_pad"]

PRECISION_BITS = 22


_Sample = TypeVar("_Sample", np.uint8, np.float32)


def resize_with_pad(image: NDArray[_Sample], height: int, width: int) -> NDArray[_Sample]:
    """Fit images into the given size, black around them, as openpi does.

    uint8 as openpi's client does with PIL, padded with 0; float32 as its models do with JAX, padded
    with -1 and clipped to [-1, 1].

    Args:
        image: uint8 or float32 `[..., height, width, 3]` or `[..., 3, height, width]`; a last size
            of 3 decides.
        height: rows of the result.
        width: columns of the result.

    Returns:
        Images of the same layout, or `image` itself if it has the size already.

    Raises:
        ImageError: another shape or dtype.
    """
    shape = shape_of(image)
    check_size(height, width)
    if (shape.height, shape.width) == (height, width):
        return image
    # exactly openpi's arithmetic: sizes and offsets are truncated, not rounded
    ratio = max(shape.width / width, shape.height / height)
    fit_height, fit_width = int(shape.height / ratio), int(shape.width / ratio)
    if fit_height == 0 or fit_width == 0:
        raise ImageError(
            f"image of {shape.height} rows by {shape.width} columns is too thin to fit into "
            f"{height} by {width}: not one pixel is left of its short side"
        )
    top, left = max(0, height - fit_height) // 2, max(0, width - fit_width) // 2
    fit_height, fit_width = min(fit_height, height), min(fit_width, width)
    is_float = image.dtype == np.float32
    size: tuple[int, ...] = (3, height, width) if shape.is_planes else (height, width, 3)
    out = np.full((*image.shape[:-3], *size), -1 if is_float else 0, image.dtype)
    for index in np.ndindex(image.shape[:-3]):
        one, window = image[index], out[index]
        if not shape.is_planes:
            one, window = one.transpose(2, 0, 1), window.transpose(2, 0, 1)
        resample = _resampled_floats if is_float else _resampled
        # columns first, with the pixels of a column beside each other, so that sums run along
        # memory
        turned = resample(one.transpose(2, 0, 1), fit_width)  # [width, 3, height]
        resized = resample(turned.transpose(2, 1, 0), fit_height)  # [height, 3, width]
        window[:, top : top + fit_height, left : left + fit_width] = resized.transpose(1, 0, 2)
    return out.clip(-1, 1) if is_float else out


def _resampled(lines: NDArray[Any], size: int) -> NDArray[Any]:
    """`size` weighted sums of lines; lines are the first axis."""
    if len(lines) == size:
        return lines
    lines = np.ascontiguousarray(lines)
    total = np.full((size, *lines.shape[1:]), 1 << (PRECISION_BITS - 1), np.int32)
    for places, weights in _triangle(len(lines), size):
        total += lines[places] * (weights * (1 << PRECISION_BITS) + 0.5).astype(np.int32)
    total >>= PRECISION_BITS
    return np.minimum(total, 255).astype(np.uint8)


def _resampled_floats(lines: NDArray[Any], size: int) -> NDArray[Any]:
    if len(lines) == size:
        return lines
    lines = np.ascontiguousarray(lines)
    total = np.zeros((size, *lines.shape[1:]))
    for places, weights in _triangle(len(lines), size):
        total += lines[places] * weights
    return total


@functools.lru_cache(maxsize=32)
def _triangle(size: int, target: int) -> tuple[tuple[NDArray[np.intp], NDArray[np.float64]], ...]:
    """The terms of the sums: lines, one for each target line, and weights `[target, 1, 1]`."""
    scale = size / target
    support = max(scale, 1.0)
    center = (np.arange(target) + 0.5) * scale
    start = np.maximum(0, (center - support + 0.5).astype(np.intp))
    end = np.minimum(size, (center + support + 0.5).astype(np.intp))
    places = start[:, None] + np.arange((end - start).max())
    distance = np.abs((places - center[:, None] + 0.5) / support)
    triangle = np.where(places < end[:, None], np.maximum(0.0, 1.0 - distance), 0.0)
    weights = triangle / triangle.sum(1, keepdims=True)
    # beyond the last line the weight is 0
    places = np.minimum(places, size - 1)
    return tuple((places[:, k], weights[:, k, None, None]) for k in range(places.shape[1]))

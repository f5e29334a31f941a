"""`sensor_msgs/Image` to RGB in numpy: the encodings that most cameras speak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flash_transport.errors import ImageError
from flash_transport.pure.dtype import quoted
from flash_transport.pure.shapes import check_size
from flash_transport.pure.unpack import byte_view

__all__ = ["image_to_rgb"]

Rgb = NDArray[np.uint8]


def image_to_rgb(
    data: Any,
    *,
    height: int,
    width: int,
    step: int,
    encoding: str,
    is_bigendian: bool = False,  # noqa: ARG001 - of samples of more than one byte
) -> Rgb:
    """Turn what `sensor_msgs/Image` carries into a new uint8 array `[height, width, 3]`.

    Args:
        data: the bytes of the rows; not copied before they are converted.
        height: rows.
        width: columns.
        step: bytes from the start of a row to the start of the next.
        encoding: `rgb8`, `bgr8`, `rgba8`, `bgra8` or `mono8`.
        is_bigendian: byte order of samples of more than one byte.

    Raises:
        ImageError: an encoding that is not known, or less data than the rest asks for.
    """
    view = byte_view(data)
    if encoding not in _CHANNELS:
        raise ImageError(
            f"image encoding {quoted(encoding)} is not supported, "
            f"expected one of {', '.join(_CHANNELS)}"
        )
    pixel_bytes, write_rgb = _CHANNELS[encoding]
    check_size(height, width)
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise ImageError(
            f"image step is {step} bytes, expected at least {row_bytes} for {width} columns "
            f"of {encoding}"
        )
    # some drivers leave out the padding of the last row
    expected = (height - 1) * step + row_bytes
    if len(view) < expected:
        raise ImageError(
            f"image has {len(view)} bytes of data, expected at least {expected} for {height} rows "
            f"of step {step}"
        )
    pixels = np.lib.stride_tricks.as_strided(
        view[:expected], (height, width, pixel_bytes), (step, pixel_bytes, 1), writeable=False
    )
    rgb = np.empty((height, width, 3), np.uint8)
    write_rgb(pixels, rgb)
    return rgb


def _pick(*places: int) -> Callable[[Rgb, Rgb], None]:
    """Red, green and blue by their places in the pixel."""

    def write_rgb(pixels: Rgb, rgb: Rgb) -> None:
        for channel, place in enumerate(places):
            rgb[..., channel] = pixels[..., place]

    return write_rgb


def _copy(pixels: Rgb, rgb: Rgb) -> None:
    rgb[...] = pixels


# bytes of a pixel, and what makes colours of it
_CHANNELS: dict[str, tuple[int, Callable[[Rgb, Rgb], None]]] = {
    "rgb8": (3, _copy),
    "bgr8": (3, _pick(2, 1, 0)),
    "rgba8": (4, _pick(0, 1, 2)),
    "bgra8": (4, _pick(2, 1, 0)),
    "mono8": (1, _pick(0, 0, 0)),
}

"""`sensor_msgs/Image` to RGB in numpy: the same encodings as in the compiled half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flash_transport.errors import ImageError
from flash_transport.pure.dtype import quoted
from flash_transport.pure.shapes import check_size
from flash_transport.pure.unpack import byte_view

__all__ = ["image_to_rgb"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Frame:
    """An image as a camera publishes it."""

    data: Bytes
    height: int
    width: int
    step: int
    is_bigendian: bool

    def rows(self, count: int, length: int, *, start: int = 0, step: int = 0) -> Bytes:
        """`count` rows of `length` bytes from the row `start` on, `step` bytes apart."""
        step = step or self.step
        first = start * self.step
        view = self.data[first : first + (count - 1) * step + length]
        strided: Bytes = np.lib.stride_tricks.as_strided(
            view, (count, length), (step, 1), writeable=False
        )
        return strided

    def samples(self, channels: int, size: int) -> Bytes:
        """Levels of 8 bits [height, width, channels], from samples of `size` bytes."""
        rows = self.rows(self.height, self.width * channels * size)
        if size == 1:
            return rows.reshape(self.height, self.width, channels)
        words = np.ascontiguousarray(rows).view(">u2" if self.is_bigendian else "<u2")
        levels = ((words.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return levels.reshape(self.height, self.width, channels)


def image_to_rgb(
    data: Any,
    *,
    height: int,
    width: int,
    step: int,
    encoding: str,
    is_bigendian: bool = False,
) -> Bytes:
    """Convert the data of a `sensor_msgs/Image` to a new uint8 array `[height, width, 3]`.

    Args:
        data: the bytes of the rows; not copied before they are converted.
        height: rows.
        width: columns.
        step: bytes from the start of a row to the start of the next.
        encoding: a name of `sensor_msgs/image_encodings.hpp`.
        is_bigendian: byte order of samples of more than one byte.

    Raises:
        ImageError: the encoding is unknown, or the data is shorter than the other arguments say.
    """
    view = byte_view(data)
    if encoding not in _ENCODINGS:
        raise ImageError(
            f"image encoding {quoted(encoding)} is not supported, "
            f"expected one of {', '.join(_ENCODINGS)}"
        )
    layout, convert = _ENCODINGS[encoding]
    check_size(height, width)
    rows, row_bytes = layout(height, width)
    if step < row_bytes:
        raise ImageError(
            f"image step is {step} bytes, expected at least {row_bytes} for {width} columns "
            f"of {encoding}"
        )
    # some drivers leave out the padding of the last row
    expected = (rows - 1) * step + row_bytes
    if len(view) < expected:
        raise ImageError(
            f"image has {len(view)} bytes of data, expected at least {expected} for {rows} rows "
            f"of step {step} in {encoding}"
        )
    return convert(_Frame(view, height, width, step, is_bigendian))


def _pick(frame: _Frame, channels: int, places: list[int], size: int) -> Bytes:
    """Red, green and blue, by their positions in the pixel."""
    return np.ascontiguousarray(frame.samples(channels, size)[..., places])


def _pairs(frame: _Frame, y: int, u: int, v: int) -> Bytes:
    """Two pixels in four bytes; y, u and v are positions."""
    columns = (frame.width + 1) // 2
    pairs = frame.rows(frame.height, columns * 4).reshape(frame.height, columns, 4)
    bright = pairs[..., [y, y + 2]].reshape(frame.height, -1)[:, : frame.width]
    return _bt601(frame, bright, pairs[..., u], pairs[..., v])


def _planes(frame: _Frame, share: int, u: int, v: int) -> Bytes:
    """A plane of luma, and one of chroma in which `share` by `share` pixels share two bytes."""
    rows, columns = -(-frame.height // share), -(-frame.width // share)
    step = frame.step * 2 // share
    colour = frame.rows(rows, columns * 2, start=frame.height, step=step)
    colour = colour.reshape(rows, columns, 2)
    bright = frame.rows(frame.height, frame.width)
    return _bt601(frame, bright, colour[..., u], colour[..., v])


def _bt601(frame: _Frame, bright: Bytes, blue: Bytes, red: Bytes) -> Bytes:
    """ITU-R BT.601 with luma from 16 to 235, in the fixed point of OpenCV's `cvtColor`."""
    rows, columns = -(-frame.height // blue.shape[0]), -(-frame.width // blue.shape[1])
    window = slice(frame.height), slice(frame.width)
    u, v = (
        colour.astype(np.int32).repeat(rows, 0).repeat(columns, 1)[window] - 128
        for colour in (blue, red)
    )
    y = np.maximum(bright.astype(np.int32) - 16, 0) * _fixed(1.164) + (1 << 19)
    rgb = np.stack(
        [
            y + _fixed(1.596) * v,
            y + _fixed(-0.813) * v + _fixed(-0.391) * u,
            y + _fixed(2.018) * u,
        ],
        -1,
    )
    return (rgb >> 20).clip(0, 255).astype(np.uint8)


def _fixed(value: float) -> int:
    return int(value * (1 << 20))


def _bayer(frame: _Frame, row: int, column: int, size: int) -> Bytes:
    """Bilinear, mirrored at the edges; the first red sample is at `row` and `column`."""
    raw: NDArray[Any] = frame.samples(1, size)[..., 0].astype(np.uint16)
    for axis in (0, 1):
        width = [(1, 1) if axis == other else (0, 0) for other in (0, 1)]
        raw = np.pad(raw, width, "reflect" if raw.shape[axis] > 1 else "edge")
    middle, left, right = raw[1:-1, 1:-1], raw[1:-1, :-2], raw[1:-1, 2:]
    up, down = raw[:-2, 1:-1], raw[2:, 1:-1]
    sides, ends = (left + right + 1) >> 1, (up + down + 1) >> 1
    cross = (left + right + up + down + 2) >> 2
    corners = (raw[:-2, :-2] + raw[:-2, 2:] + raw[2:, :-2] + raw[2:, 2:] + 2) >> 2
    rgb = np.empty((frame.height, frame.width, 3), np.uint8)
    for in_red_row in (True, False):
        for in_red_column in (True, False):
            y, x = row if in_red_row else 1 - row, column if in_red_column else 1 - column
            own, other = (sides, ends) if in_red_row else (ends, sides)
            if in_red_row == in_red_column:
                own, other = (middle, corners) if in_red_row else (corners, middle)
            green = cross if in_red_row == in_red_column else middle
            for channel, colour in enumerate((own, green, other)):
                rgb[y::2, x::2, channel] = colour[y::2, x::2]
    return rgb


_Layout = Callable[[int, int], tuple[int, int]]
"""Number of rows of data, and bytes of each, from height and width."""


def _pixels(size: int) -> _Layout:
    return lambda height, width: (height, width * size)


def _pair_rows(height: int, width: int) -> tuple[int, int]:
    return height, (width + 1) // 2 * 4


def _half_plane(height: int, width: int) -> tuple[int, int]:
    return height + (height + 1) // 2, (width + 1) // 2 * 2


def _full_plane(height: int, width: int) -> tuple[int, int]:
    return 3 * height, width


_RGB, _BGR, _MONO = [0, 1, 2], [2, 1, 0], [0, 0, 0]
_PICKS = [
    *[("rgb8", 3, _RGB, 1), ("bgr8", 3, _BGR, 1), ("rgba8", 4, _RGB, 1), ("bgra8", 4, _BGR, 1)],
    *[("mono8", 1, _MONO, 1), ("8UC1", 1, _MONO, 1), ("8UC3", 3, _BGR, 1), ("8UC4", 4, _BGR, 1)],
    *[("rgb16", 3, _RGB, 2), ("bgr16", 3, _BGR, 2), ("rgba16", 4, _RGB, 2), ("bgra16", 4, _BGR, 2)],
    *[("mono16", 1, _MONO, 2), ("16UC1", 1, _MONO, 2), ("16UC3", 3, _BGR, 2)],
]
_RED_AT = {"rggb": (0, 0), "bggr": (1, 1), "gbrg": (1, 0), "grbg": (0, 1)}

_ENCODINGS: dict[str, tuple[_Layout, Callable[[_Frame], Bytes]]] = {
    **{
        name: (
            _pixels(channels * size),
            partial(_pick, channels=channels, places=places, size=size),
        )
        for name, channels, places, size in _PICKS
    },
    **{
        f"bayer_{pattern}{8 * size}": (
            _pixels(size),
            partial(_bayer, row=row, column=column, size=size),
        )
        for size in (1, 2)
        for pattern, (row, column) in _RED_AT.items()
    },
    "uyvy": (_pair_rows, partial(_pairs, y=1, u=0, v=2)),
    "yuv422": (_pair_rows, partial(_pairs, y=1, u=0, v=2)),
    "yuyv": (_pair_rows, partial(_pairs, y=0, u=1, v=3)),
    "yuv422_yuy2": (_pair_rows, partial(_pairs, y=0, u=1, v=3)),
    "nv12": (_half_plane, partial(_planes, share=2, u=0, v=1)),
    "nv21": (_half_plane, partial(_planes, share=2, u=1, v=0)),
    "nv24": (_full_plane, partial(_planes, share=1, u=0, v=1)),
}

"""The compiled half of flash_transport: what `flash_transport` re-exports."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

__version__: str

def packb(value: Any) -> bytes:
    """Pack a value as openpi's client and server do: msgpack with numpy arrays.

    Takes None, bool, int, float, str, bytes-like values, numpy arrays and scalars, and lists,
    tuples and dicts of them (with str or bytes keys). Tuples arrive as lists.

    Raises:
        CodecError: the value, or one inside it, cannot travel; names the way to it.
    """

def unpackb(data: Buffer) -> Any:
    """Unpack one message. Arrays are read-only views that keep `data` alive.

    Raises:
        CodecError: `data` is no such message, or larger or deeper than a message may be.
    """

def resize_with_pad(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Fit an image into the given size, black around it, as openpi's client does with PIL.

    Do not write to `image` from another thread in the meantime: the GIL is released.

    Args:
        image: uint8 `[height, width, 3]` or `[3, height, width]`; a last size of 3 decides.
        height: rows of the result.
        width: columns of the result.

    Returns:
        An image of the same layout, or `image` itself where it has the size already.

    Raises:
        ImageError: another shape or dtype.
    """

def image_to_rgb(
    data: Buffer,
    *,
    height: int,
    width: int,
    step: int,
    encoding: str,
    is_bigendian: bool = False,
) -> NDArray[np.uint8]:
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

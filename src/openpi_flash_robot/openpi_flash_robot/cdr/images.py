"""sensor_msgs/Image and CompressedImage, with the pixels where they arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openpi_flash_robot.cdr.reader import CdrReader


@dataclass(frozen=True, eq=False)
class RawImage:
    """What is used of a sensor_msgs/Image.

    Attributes:
        stamp_ns: of the header; 0 if it was never set.
        height: rows.
        width: columns.
        encoding: of the pixels, as sensor_msgs names them.
        is_bigendian: byte order of samples of more than one byte.
        step: bytes from row to row.
        data: the rows, as a buffer.
    """

    stamp_ns: int
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """What is used of a sensor_msgs/CompressedImage.

    Attributes:
        stamp_ns: of the header; 0 if it was never set.
        format: what the driver calls it.
        data: the file, as a buffer.
    """

    stamp_ns: int
    format: str
    data: Any


def read_image(message: bytes) -> RawImage:
    """A serialized sensor_msgs/Image.

    Raises:
        CdrError: it is not one.
    """
    reader = CdrReader(message)
    stamp_ns = reader.stamp()
    reader.string()  # header.frame_id
    height, width, encoding = reader.uint32(), reader.uint32(), reader.string()
    is_bigendian, step = reader.uint8(), reader.uint32()
    return RawImage(stamp_ns, height, width, encoding, is_bigendian, step, reader.octets())


def read_compressed_image(message: bytes) -> EncodedImage:
    """A serialized sensor_msgs/CompressedImage.

    Raises:
        CdrError: it is not one.
    """
    reader = CdrReader(message)
    stamp_ns = reader.stamp()
    reader.string()  # header.frame_id
    return EncodedImage(stamp_ns, reader.string(), reader.octets())

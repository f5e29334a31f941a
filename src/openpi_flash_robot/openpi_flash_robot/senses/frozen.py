"""Cameras whose images stay the same while their stamps go on: the picture hangs, not the world.

A real camera never sends the same bytes twice: its sensor has noise. A driver, a decoder or a
republisher that hangs does. Only the newest image of each camera is looked at, a few times a
second, and of a large one only some rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np

from openpi_flash_robot.hold import Hold
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.senses.frames import CameraFrames, Frame, Message

LOOK_EVERY_NS = 100_000_000
"""Least time between the stamps of two images that are looked at."""

LOOKED_AT_BYTES = 256 * 1024
"""Of an image at most: all of 320x240, every fourth row of 640x480. 0.07 ms on a 4 GB/s CRC."""

BLOCK_BYTES = 1024
"""Of an encoded image, in place of a row."""


def fingerprint(data: Any, row_bytes: int) -> int:
    """A number that is the same for the same bytes, and almost never else.

    Args:
        data: the bytes of an image, as a buffer.
        row_bytes: of one row; 0 for an encoded image.
    """
    size = len(data)
    if size <= LOOKED_AT_BYTES:
        return zlib.crc32(data)
    row = row_bytes if 0 < row_bytes <= LOOKED_AT_BYTES else BLOCK_BYTES
    rows = size // row
    apart = -(-rows * row // LOOKED_AT_BYTES)
    image = np.frombuffer(data, dtype=np.uint8, count=rows * row).reshape(rows, row)
    return zlib.crc32(image[::apart].tobytes(), size)


@dataclass(frozen=True)
class _Seen:
    """What the images of a camera have looked like, from one stamp to another."""

    print: int
    since_ns: int
    until_ns: int


class FrozenImages(Generic[Message]):
    """Looks whether the images of each camera change."""

    def __init__(
        self, frames: CameraFrames[Message], fingerprint: Callable[[Message], int] | None
    ) -> None:
        """Nothing was looked at yet.

        Args:
            frames: of the cameras.
            fingerprint: of an image; None looks at none.
        """
        self._frames, self._fingerprint = frames, fingerprint
        self._seen: dict[str, _Seen] = {}

    def problem(self, max_frozen_ns: int) -> Hold | None:
        """Which camera shows the same image for too long; None if none does.

        Args:
            max_frozen_ns: `max_frozen_time`; 0 looks at nothing.
        """
        if self._fingerprint is None or not max_frozen_ns:
            return None
        for camera, frame in self._frames.newest().items():
            seen = self._look(camera, frame)
            frozen_ns = seen.until_ns - seen.since_ns
            if frozen_ns > max_frozen_ns:
                return self._frames.reason(
                    camera,
                    f"is frozen: its images have been the same, byte for byte, for "
                    f"{to_seconds(frozen_ns):.2f} s, since the one stamped "
                    f"{to_seconds(seen.since_ns):.2f}; max_frozen_time is "
                    f"{to_seconds(max_frozen_ns):.2f} s",
                )
        return None

    def _look(self, camera: str, frame: Frame[Message]) -> _Seen:
        """What the newest image of a camera shows; one that is hardly newer is not looked at."""
        seen = self._seen.get(camera)
        if seen is not None and 0 <= frame.stamp_ns - seen.until_ns < LOOK_EVERY_NS:
            return seen
        assert self._fingerprint is not None
        found = _Seen(self._fingerprint(frame.message), frame.stamp_ns, frame.stamp_ns)
        if seen is not None and seen.print == found.print and seen.until_ns < found.until_ns:
            found = replace(found, since_ns=seen.since_ns)
        self._seen[camera] = found
        return found

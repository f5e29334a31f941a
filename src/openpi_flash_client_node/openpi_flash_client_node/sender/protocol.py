"""The node's words to the process that sends: a window for one controller, as bytes on a pipe."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from openpi_flash_robot.play.motion import Motion

HEADER = struct.Struct("<III")
"""Index of the controller, count of points K, count of axes N; int64 times [K] and float64
positions and velocities [K, N] follow."""

HEARD, NOT_HEARD = b"\x01", b"\x00"
"""The process's words to the node: whether every controller listens to it. Said on change."""

LARGEST = 1_000_000
"""Points times axes of a window; a larger one is no window."""


class NoWindowError(ValueError):
    """The bytes on the pipe are no window."""


def encode(controller: int, window: Motion) -> bytes:
    """A window for a controller."""
    count, axes = window.positions.shape
    return b"".join(
        (
            HEADER.pack(controller, count, axes),
            np.ascontiguousarray(window.times_ns, dtype="<i8").tobytes(),
            np.ascontiguousarray(window.positions, dtype="<f8").tobytes(),
            np.ascontiguousarray(window.velocities, dtype="<f8").tobytes(),
        )
    )


class Decoder:
    """Takes bytes as they come, and gives windows."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, Motion]]:
        """The windows that are whole now, with the index of their controller.

        Raises:
            NoWindowError: the bytes make no sense.
        """
        self._bytes += data
        while (found := self._next()) is not None:
            yield found

    def _next(self) -> tuple[int, Motion] | None:
        if len(self._bytes) < HEADER.size:
            return None
        controller, count, axes = HEADER.unpack_from(self._bytes)
        if count < 1 or count * max(axes, 1) > LARGEST:
            raise NoWindowError(f"a window of {count} points and {axes} axes")
        times_end = HEADER.size + 8 * count
        positions_end = times_end + 8 * count * axes
        end = positions_end + 8 * count * axes
        if len(self._bytes) < end:
            return None
        whole = bytes(self._bytes[:end])
        del self._bytes[:end]
        shape = (count, axes)
        return controller, Motion(
            np.frombuffer(whole[HEADER.size : times_end], dtype="<i8").astype(np.int64),
            np.frombuffer(whole[times_end:positions_end], dtype="<f8").reshape(shape).copy(),
            np.frombuffer(whole[positions_end:], dtype="<f8").reshape(shape).copy(),
        )

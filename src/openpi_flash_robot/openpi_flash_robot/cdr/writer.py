"""Writes a ROS message field by field: plain CDR in little endian, as `reader.py` reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import split

HEAD = b"\x00\x01\x00\x00"
"""Encapsulation: plain CDR, little endian, no options."""


class CdrWriter:
    """Puts one message together, from its first field on. Every method returns the writer."""

    def __init__(self) -> None:
        self._written = bytearray()

    def message(self) -> bytes:
        """The whole message."""
        return HEAD + bytes(self._written)

    def header(self, stamp_ns: int, frame: str = "") -> CdrWriter:
        """A std_msgs/Header."""
        return self.time(stamp_ns).string(frame)

    def time(self, nanoseconds: int) -> CdrWriter:
        """A builtin_interfaces/Time or Duration."""
        return self._pack(4, "<iI", *split(nanoseconds))

    def uint8(self, value: int) -> CdrWriter:
        """A byte."""
        return self._pack(1, "<B", value)

    def boolean(self, value: bool) -> CdrWriter:
        """True or false."""
        return self._pack(1, "<?", value)

    def uint32(self, value: int) -> CdrWriter:
        """An unsigned number of 32 bits."""
        return self._pack(4, "<I", value)

    def float32(self, value: float) -> CdrWriter:
        """A number of 32 bits."""
        return self._pack(4, "<f", value)

    def string(self, text: str) -> CdrWriter:
        """A string; a zero ends it, so one inside is replaced by a space."""
        encoded = text.encode("utf-8", "replace").replace(b"\0", b" ") + b"\0"
        self.uint32(len(encoded))
        self._written += encoded
        return self

    def strings(self, texts: Sequence[str]) -> CdrWriter:
        """A sequence of strings."""
        self.uint32(len(texts))
        for text in texts:
            self.string(text)
        return self

    def doubles(self, values: Iterable[float] | NDArray[Any]) -> CdrWriter:
        """A sequence of float64."""
        array = np.ascontiguousarray(values, "<f8").reshape(-1)
        self.uint32(array.size)
        if array.size:
            self._align(8)
            self._written += array.tobytes()
        return self

    def octets(self, data: Any) -> CdrWriter:
        """A sequence of bytes, from any buffer of bytes."""
        self.uint32(len(data))
        self._written += data
        return self

    def _pack(self, size: int, form: str, *values: Any) -> CdrWriter:
        self._align(size)
        self._written += struct.pack(form, *values)
        return self

    def _align(self, size: int) -> None:
        self._written += bytes(-len(self._written) % size)

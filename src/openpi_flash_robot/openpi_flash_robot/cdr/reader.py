"""Reads a serialized ROS message, field by field.

Plain CDR, version 1 of OMG's XTypes: what every middleware of ROS 2 uses for messages. Numbers are
aligned to their size, counted from behind the four bytes of the encapsulation header.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass

from openpi_flash_robot.nanoseconds import from_stamp

ENCAPSULATION = 4
"""Bytes: two of the kind, two of options."""


@dataclass(frozen=True)
class _ByteOrder:
    """How numbers are written in one kind of message."""

    is_native: bool
    uint32: struct.Struct
    stamp: struct.Struct


def _order(sign: str, name: str) -> _ByteOrder:
    return _ByteOrder(sys.byteorder == name, struct.Struct(f"{sign}I"), struct.Struct(f"{sign}iI"))


_ORDERS = {b"\x00\x00": _order(">", "big"), b"\x00\x01": _order("<", "little")}


class CdrError(ValueError):
    """The bytes are not a message of the expected kind in plain CDR."""


class CdrReader:
    """Reads one message from its beginning on.

    Every method raises `CdrError` where the message ends too early.
    """

    def __init__(self, message: bytes) -> None:
        """Begin behind the encapsulation header.

        Raises:
            CdrError: it is of another kind than plain CDR.
        """
        order = _ORDERS.get(message[:2])
        if order is None:
            raise CdrError(f"encapsulation {message[:ENCAPSULATION].hex()!r}, expected plain CDR")
        self._message = message
        self._at = ENCAPSULATION
        self._order = order

    @property
    def at(self) -> int:
        """Where the next field begins, before its alignment."""
        return self._at

    def skip_to(self, at: int) -> None:
        """Go on elsewhere: what lies between is known already."""
        self._at = at

    def stamp(self) -> int:
        """A builtin_interfaces/Time, in nanoseconds."""
        self._align(4)
        return from_stamp(*self._order.stamp.unpack_from(self._message, self._advance(8)))

    def uint32(self) -> int:
        """An unsigned number of 32 bits."""
        self._align(4)
        value: int = self._order.uint32.unpack_from(self._message, self._advance(4))[0]
        return value

    def uint8(self) -> int:
        """A byte."""
        return self._message[self._advance(1)]

    def string(self) -> str:
        """A string."""
        length = self.uint32()
        if length == 0:  # not every writer counts the zero that ends an empty one
            return ""
        begin = self._advance(length)
        end = begin + length - 1
        if self._message[end] != 0:
            raise CdrError("a string without the zero that ends it")
        try:
            return self._message[begin:end].decode()
        except UnicodeDecodeError as error:
            raise CdrError(f"a string that is no UTF-8: {error}") from None

    def strings(self) -> tuple[str, ...]:
        """A sequence of strings."""
        return tuple(self.string() for _ in range(self._count(4)))

    def doubles(self) -> array[float]:
        """A sequence of float64."""
        count = self._count(8)
        values = array("d")
        if count:
            self._align(8)
            begin = self._advance(8 * count)
            values.frombytes(self._message[begin : begin + 8 * count])
            if not self._order.is_native:
                values.byteswap()
        return values

    def octets(self) -> memoryview:
        """A sequence of bytes, as a view on the message."""
        length = self.uint32()
        begin = self._advance(length)
        return memoryview(self._message)[begin : begin + length]

    def _count(self, size: int) -> int:
        """How many elements of at least this size follow; never more than there is room for."""
        count = self.uint32()
        if count * size > len(self._message) - self._at:
            raise CdrError(f"{count} elements, but {len(self._message) - self._at} bytes are left")
        return count

    def _align(self, size: int) -> None:
        self._at += -(self._at - ENCAPSULATION) % size

    def _advance(self, size: int) -> int:
        """Where the next bytes begin; they are passed."""
        begin, self._at = self._at, self._at + size
        if self._at > len(self._message):
            raise CdrError(f"cut off: {len(self._message)} bytes, at least {self._at} expected")
        return begin

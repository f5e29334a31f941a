"""Reads msgpack tokens from untrusted bytes.

The cursor never reads beyond the end and trusts no length: the announced length of a list or map
is compared with the remaining bytes before anything is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flash_transport.errors import CodecError

__all__ = ["BytesAt", "ListOf", "MapOf", "Reader"]

MAX_BYTES = 256 << 20
"""Bytes of the whole message."""
MAX_DEPTH = 64
"""Depth of nested maps and lists."""
MAX_VALUES = 1 << 18
"""Values of the whole message, map keys included."""
MAX_CONTAINERS = 1 << 14
"""Maps, lists and arrays of the whole message."""


@dataclass(frozen=True)
class ListOf:
    """The start of a list; `length` values follow."""

    length: int


@dataclass(frozen=True)
class MapOf:
    """The start of a map; `length` pairs of key and value follow."""

    length: int


@dataclass(frozen=True)
class BytesAt:
    """Bytes that are still in the message."""

    at: int
    length: int


class Reader:
    """A cursor over one message."""

    def __init__(self, message: memoryview) -> None:
        if len(message) > MAX_BYTES:
            raise _over_limit("bytes", len(message), MAX_BYTES)
        self.message = message
        self.at = 0
        self._depth = 0
        self._values = 0
        self._containers = 0

    def descend(self) -> None:
        """Enters a map or list; each `descend` needs its `ascend`."""
        if self._depth >= MAX_DEPTH:
            raise too_deep()
        self._depth += 1

    def ascend(self) -> None:
        """Leaves a map or list."""
        self._depth -= 1

    def token(self) -> Any:
        """One plain value, or the start of a list, a map or bytes."""
        self._count_value()
        start = self.at
        marker = self._take(1)[0]
        if marker < 0xC0:
            return self._short(start, marker)
        if marker >= 0xE0:
            return marker - 0x100
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in _NUMBERS:
            number = _NUMBERS[marker]
            return number.unpack(self._take(number.size))[0]
        read, width = _OTHERS[marker]
        return read(self, start, width)

    def key(self) -> str | bytes:
        """A map's key: text or bytes, as openpi's decoder requires."""
        at = self.at
        token = self.token()
        if isinstance(token, str):
            return token
        if isinstance(token, BytesAt):
            return self.bytes(token)
        raise CodecError(f"map key at byte {at} is {_name(token)}, expected text or bytes")

    def bytes(self, span: BytesAt) -> bytes:
        """A copy of bytes in the message."""
        return bytes(self.message[span.at : span.at + span.length])

    def skip(self) -> None:
        """Skips one value and everything in it."""
        pending = 1
        while pending:
            token = self.token()
            pending -= 1
            if isinstance(token, ListOf):
                pending += token.length
            elif isinstance(token, MapOf):
                pending += 2 * token.length

    def finish(self) -> None:
        """Fails unless the message ends here."""
        if self._left():
            raise CodecError(
                f"{self._left()} bytes follow the end of the message at byte {self.at}"
            )

    def _left(self) -> int:
        return len(self.message) - self.at

    def _count_value(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _over_limit("values", self._values, MAX_VALUES)

    def _list(self, length: int) -> ListOf:
        self._check_container(length)
        return ListOf(length)

    def _map(self, length: int) -> MapOf:
        self._check_container(2 * length)
        return MapOf(length)

    def _check_container(self, values: int) -> None:
        if values > self._left():
            raise self._truncated(values)
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise _over_limit("maps, lists and arrays", self._containers, MAX_CONTAINERS)
        if self._values + values > MAX_VALUES:
            raise _over_limit("values", self._values + values, MAX_VALUES)

    def _text(self, start: int, length: int) -> str:
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError:
            raise CodecError(f"text at byte {start} is not valid UTF-8") from None

    def _short(self, start: int, marker: int) -> Any:
        """A value whose marker holds the value or its length."""
        if marker < 0x80:
            return marker
        if marker < 0x90:
            return self._map(marker & 0x0F)
        if marker < 0xA0:
            return self._list(marker & 0x0F)
        return self._text(start, marker & 0x1F)

    def _bytes(self, _start: int, width: int) -> BytesAt:
        length = self._length(width)
        self._take(length)
        return BytesAt(self.at - length, length)

    def _long_text(self, start: int, width: int) -> str:
        return self._text(start, self._length(width))

    def _long_list(self, _start: int, width: int) -> ListOf:
        return self._list(self._length(width))

    def _long_map(self, _start: int, width: int) -> MapOf:
        return self._map(self._length(width))

    def _extension(self, start: int, width: int) -> Any:
        self._length(width)
        kind = _INT8.unpack(self._take(1))[0]
        raise CodecError(f"msgpack extension type {kind} at byte {start} is not supported")

    def _reserved(self, start: int, _width: int) -> Any:
        raise CodecError(f"byte {start} is 0xc1, which starts no msgpack value")

    def _length(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _take(self, length: int) -> memoryview:
        if length > self._left():
            raise self._truncated(length)
        self.at += length
        return self.message[self.at - length : self.at]

    def _truncated(self, needed: int) -> CodecError:
        return CodecError(
            f"message is cut off: a value at byte {self.at} needs {needed} bytes, "
            f"{self._left()} are left"
        )


def too_deep() -> CodecError:
    """The error of a message or value that is nested too deeply."""
    return CodecError(f"message nests more than {MAX_DEPTH} levels deep")


def _over_limit(what: str, length: int, limit: int) -> CodecError:
    return CodecError(f"message has {length} {what}, at most {limit} are allowed")


def _name(token: Any) -> str:
    for kinds, name in _TOKEN_NAMES:
        if isinstance(token, kinds):
            return name
    return "nil"


# bool before int: a bool is an int in Python
_TOKEN_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "a bool"),
    (int, "an integer"),
    (float, "a float"),
    (ListOf, "a list"),
    (MapOf, "a map"),
)
_INT8 = struct.Struct(">b")
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: _INT8,
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}


# the method that reads on after the marker, and how many bytes of length follow
_OTHERS: dict[int, tuple[Callable[[Reader, int, int], Any], int]] = {
    0xC1: (Reader._reserved, 0),
    0xC4: (Reader._bytes, 1),
    0xC5: (Reader._bytes, 2),
    0xC6: (Reader._bytes, 4),
    0xC7: (Reader._extension, 1),
    0xC8: (Reader._extension, 2),
    0xC9: (Reader._extension, 4),
    **dict.fromkeys(range(212, 217), (Reader._extension, 0)),
    0xD9: (Reader._long_text, 1),
    0xDA: (Reader._long_text, 2),
    0xDB: (Reader._long_text, 4),
    0xDC: (Reader._long_list, 2),
    0xDD: (Reader._long_list, 4),
    0xDE: (Reader._long_map, 2),
    0xDF: (Reader._long_map, 4),
}

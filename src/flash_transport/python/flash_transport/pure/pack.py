"""Python objects to msgpack, as the compiled `packb` does it, byte for byte.

The data of a large array is copied once, when the rest of the message is written.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from flash_transport.errors import CodecError
from flash_transport.pure.dtype import parse_dtype
from flash_transport.pure.reader import MAX_DEPTH, too_deep

__all__ = ["packb"]


def packb(value: Any) -> bytes:
    """Pack a value as openpi's client and server do: msgpack with numpy arrays.

    Takes None, bool, int, float, str, bytes-like values, numpy arrays and scalars, and lists,
    tuples and dicts of them (with str or bytes keys). Tuples arrive as lists.

    Raises:
        CodecError: the value, or one inside it, cannot be packed; gives the path to it.
    """
    message = _Message()
    try:
        message.value(value)
    except _Refused as refused:
        where = f" at {''.join(reversed(refused.path))}" if refused.path else ""
        raise CodecError(f"cannot pack the value{where}: {refused.reason}") from None
    return b"".join(map(_bytes_of, message.parts))


class _Refused(Exception):  # noqa: N818 - never seen outside
    """Why a value cannot be packed, and the path to it, innermost key first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


class _Message:
    def __init__(self) -> None:
        self.parts: list[bytes | _Block] = []
        self._depth = 0

    def value(self, value: Any) -> None:
        # the most frequent first; bool before int, because a bool is an int in Python
        if isinstance(value, str):
            self._text(value)
        elif isinstance(value, float):
            self.parts.append(_FLOAT.pack(0xCB, value))
        elif isinstance(value, bool):
            self.parts.append(b"\xc3" if value else b"\xc2")
        elif isinstance(value, int):
            self._int(value)
        elif value is None:
            self.parts.append(b"\xc0")
        elif isinstance(value, dict):
            self._dict(value)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self._bytes(value.tobytes() if isinstance(value, memoryview) else bytes(value))
        elif isinstance(value, (list, tuple)):
            self._sequence(value)
        elif isinstance(value, np.generic):
            self._scalar(value)
        else:
            raise _Refused(
                f"{_type_name(value)} is not supported, "
                "convert it to a numpy array or a plain Python value"
            )

    def _dict(self, value: dict[Any, Any]) -> None:
        self._descend()
        # a copy of the items: other threads may change the dict while Python code packs a value
        items = list(dict.items(value))
        self.parts.append(_header("entries in one map", len(items), _MAP_HEADERS))
        for key, item in items:
            if isinstance(key, str):
                self._text(key)
            elif isinstance(key, bytes):
                self._bytes(bytes(key))
            else:
                raise _Refused(f"map key {key!r} is {_type_name(key)}, expected str or bytes")
            try:
                self.value(item)
            except _Refused as refused:
                refused.path.append(f"[{key!r}]")
                raise
        self._depth -= 1

    def _sequence(self, value: list[Any] | tuple[Any, ...]) -> None:
        self._descend()
        items = tuple(value)
        self.parts.append(_header("values in one list", len(items), _LIST_HEADERS))
        for index, item in enumerate(items):
            try:
                self.value(item)
            except _Refused as refused:
                refused.path.append(f"[{index}]")
                raise
        self._depth -= 1

    def _descend(self) -> None:
        if self._depth >= MAX_DEPTH:
            raise _Refused(str(too_deep()))
        self._depth += 1

    def _int(self, value: int) -> None:
        value = int.__index__(value)
        for first, last, marker, number in _INTS:
            if first <= value <= last:
                self.parts.append(marker + number.pack(value))
                return
        raise _Refused("integer does not fit into 64 bits")

    def _text(self, value: str) -> None:
        try:
            data = str.encode(value, "utf-8")
        except UnicodeEncodeError:
            raise _Refused("text holds a lone surrogate, which has no UTF-8") from None
        self.parts += (_header("bytes in one text", len(data), _TEXT_HEADERS), data)

    def _bytes(self, data: bytes) -> None:
        self.parts += (_header("bytes in one value", len(data), _BYTES_HEADERS), data)

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        dtype = _dtype_text(array.dtype)
        self.parts.append(_ARRAY_HEAD)
        if type(array) is np.ndarray:
            self.parts.append(_header("bytes in one value", array.nbytes, _BYTES_HEADERS))
            self.parts.append(_Block(array))
        else:
            # a subclass may change its bytes (a masked array fills its holes)
            data = array.tobytes()
            if len(data) != array.nbytes:
                raise _Refused(
                    f"{_type_name(array)}.tobytes() gave {len(data)} bytes, expected {array.nbytes}"
                )
            self._bytes(data)
        self.parts.append(_DTYPE_KEY)
        self._text(dtype)
        self.parts += (_SHAPE_KEY, _header("dimensions", array.ndim, _LIST_HEADERS))
        for size in array.shape:
            self._int(size)

    def _scalar(self, scalar: np.generic) -> None:
        dtype = _dtype_text(scalar.dtype)
        item = scalar.item()
        self.parts.append(_SCALAR_HEAD)
        if item is not None and not isinstance(item, (bool, int, float)):
            raise _Refused(
                f"a numpy scalar of dtype {scalar.dtype} has no plain value, "
                "convert it to a numpy array"
            )
        self.value(item)
        self.parts.append(_DTYPE_KEY)
        self._text(dtype)


class _Block:
    """An array whose bytes are copied when the whole message is put together."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array
        self._was = (array.nbytes, array.dtype)

    def bytes(self) -> Any:
        if (self._array.nbytes, self._array.dtype) != self._was:
            raise CodecError("an array changed its size or dtype while it was packed")
        if self._array.flags.c_contiguous and self._array.nbytes:
            # as bytes: not every dtype has a buffer format
            return self._array.reshape(-1).view(np.uint8)
        return self._array.tobytes()


def _bytes_of(part: bytes | _Block) -> Any:
    return part.bytes() if isinstance(part, _Block) else part


def _dtype_text(dtype: np.dtype[Any]) -> str:
    # only numpy's own types: others may share a kind but have an unknown representation
    try:
        if dtype.num <= _LAST_BUILTIN_TYPE and dtype.kind in "biufSUMm":
            return parse_dtype(dtype.str).text
    except CodecError:
        pass
    raise _Refused(
        f"dtype {dtype} (kind {dtype.kind}) is not supported, "
        "convert it, for example with .astype('float32')"
    )


def _header(what: str, length: int, headers: tuple[tuple[int, int, struct.Struct], ...]) -> bytes:
    """The shortest of `headers` (largest length, marker, its form) that can hold `length`."""
    for largest, marker, form in headers:
        if length <= largest:
            return form.pack(marker | length) if form is _SHORT else form.pack(marker, length)
    raise _Refused(f"message has {length} {what}, at most {(1 << 32) - 1} are allowed")


def _type_name(value: Any) -> str:
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return prefix + kind.__qualname__


_SHORT = struct.Struct(">B")
_ONE, _TWO, _FOUR = struct.Struct(">BB"), struct.Struct(">BH"), struct.Struct(">BI")
_FLOAT = struct.Struct(">Bd")
_TEXT_HEADERS = (
    (0x1F, 0xA0, _SHORT),
    (0xFF, 0xD9, _ONE),
    (0xFFFF, 0xDA, _TWO),
    ((1 << 32) - 1, 0xDB, _FOUR),
)
_BYTES_HEADERS = ((0xFF, 0xC4, _ONE), (0xFFFF, 0xC5, _TWO), ((1 << 32) - 1, 0xC6, _FOUR))
_LIST_HEADERS = ((0x0F, 0x90, _SHORT), (0xFFFF, 0xDC, _TWO), ((1 << 32) - 1, 0xDD, _FOUR))
_MAP_HEADERS = ((0x0F, 0x80, _SHORT), (0xFFFF, 0xDE, _TWO), ((1 << 32) - 1, 0xDF, _FOUR))
# smallest, largest, marker, form
_INTS = (
    (0, 0x7F, b"", struct.Struct(">B")),
    (-0x20, -1, b"", struct.Struct(">b")),
    (0, 0xFF, b"\xcc", struct.Struct(">B")),
    (0, 0xFFFF, b"\xcd", struct.Struct(">H")),
    (0, 0xFFFF_FFFF, b"\xce", struct.Struct(">I")),
    (0, (1 << 64) - 1, b"\xcf", struct.Struct(">Q")),
    (-0x80, 0, b"\xd0", struct.Struct(">b")),
    (-0x8000, 0, b"\xd1", struct.Struct(">h")),
    (-0x8000_0000, 0, b"\xd2", struct.Struct(">i")),
    (-(1 << 63), 0, b"\xd3", struct.Struct(">q")),
)
_ARRAY_HEAD = b"\x84\xc4\x0b__ndarray__\xc3\xc4\x04data"
_SCALAR_HEAD = b"\x83\xc4\x0d__npgeneric__\xc3\xc4\x04data"
_DTYPE_KEY = b"\xc4\x05dtype"
_SHAPE_KEY = b"\xc4\x05shape"
_LAST_BUILTIN_TYPE = 23
"""NPY_HALF, the largest type number of numpy's supported types."""

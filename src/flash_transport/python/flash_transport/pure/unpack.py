"""msgpack to Python objects, as the compiled `unpackb` does it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flash_transport.errors import CodecError
from flash_transport.pure.dtype import Dtype, parse_dtype
from flash_transport.pure.reader import BytesAt, ListOf, MapOf, Reader

__all__ = ["byte_view", "unpackb"]

MAX_DIMS = 64
"""The limit of numpy 2."""


def unpackb(data: Any) -> Any:
    """Unpack one message. Arrays are read-only views that keep `data` alive.

    Raises:
        CodecError: `data` is not a valid message, or too large or too deeply nested.
    """
    owner: Any = data if isinstance(data, bytes) else byte_view(data)
    message = _Message(Reader(memoryview(owner)), owner)
    value = message.value()
    message.reader.finish()
    return value


def byte_view(buffer: Any) -> NDArray[np.uint8]:
    """A flat array over the memory of an object that supports the buffer protocol.

    It holds the buffer, so that its owner cannot move the bytes.
    """
    if isinstance(buffer, np.ndarray) and buffer.ndim == 1 and buffer.flags.c_contiguous:
        return buffer.view(np.uint8)
    return np.frombuffer(buffer, np.uint8)


class _Message:
    def __init__(self, reader: Reader, owner: Any) -> None:
        self.reader = reader
        self._owner = owner

    def value(self) -> Any:
        token = self.reader.token()
        if isinstance(token, BytesAt):
            return self.reader.bytes(token)
        if isinstance(token, ListOf):
            self.reader.descend()
            items = [self.value() for _ in range(token.length)]
            self.reader.ascend()
            return items
        if isinstance(token, MapOf):
            self.reader.descend()
            entries = self._map(token.length)
            self.reader.ascend()
            return entries
        return token

    def _map(self, length: int) -> Any:
        start = self.reader.at
        entries: dict[str | bytes, Any] = {}
        for _ in range(length):
            key = self.reader.key()
            if key in _MARKERS:
                # Ours and openpi's senders put the marker first. Elsewhere it means that the
                # entries before it were not what they seemed.
                self.reader.at = start
                return self._tagged(length)
            entries[key] = self.value()
        return entries

    def _tagged(self, length: int) -> Any:
        """The array or the scalar of a map with a marker key; other entries are skipped."""
        reader, at = self.reader, self.reader.at
        is_array = False
        parts: dict[str, Any] = {}
        for _ in range(length):
            key = reader.key()
            name = key if isinstance(key, str) else key.decode("latin-1")
            if name == "__ndarray__":
                is_array = True
                reader.skip()
            elif name == "data":
                parts[name] = reader.token()
                if isinstance(parts[name], (ListOf, MapOf)):
                    raise _malformed(at, "data is neither bytes nor a number")
            elif name == "dtype":
                text = reader.token()
                if not isinstance(text, str):
                    raise _malformed(at, "dtype is not text")
                parts[name] = parse_dtype(text)
            elif name == "shape":
                parts[name] = self._shape(at)
            else:
                reader.skip()
        for name in ("data", "dtype", "shape")[: 3 if is_array else 2]:
            if name not in parts:
                raise _malformed(at, f"{name} is missing")
        if not is_array:
            return self._scalar(at, parts["dtype"], parts["data"])
        if not isinstance(parts["data"], BytesAt):
            raise _malformed(at, "data is not bytes")
        return self._array(parts["dtype"], parts["shape"], parts["data"])

    def _shape(self, at: int) -> list[int]:
        malformed = _malformed(at, "shape is not a list of sizes")
        token = self.reader.token()
        if not isinstance(token, ListOf) or token.length > MAX_DIMS:
            raise malformed
        shape = []
        for _ in range(token.length):
            size = self.reader.token()
            if type(size) is not int or not 0 <= size < 1 << 63:
                raise malformed
            shape.append(size)
        return shape

    def _array(self, dtype: Dtype, shape: list[int], data: BytesAt) -> NDArray[Any]:
        _check_size(dtype, shape, data.length)
        try:
            array: NDArray[Any] = np.ndarray(
                shape, np.dtype(dtype.text), self._owner, offset=data.at
            )
        except _NUMPY_ERRORS as error:
            raise _refused_by_numpy(error) from error
        array.flags.writeable = False
        return array

    def _scalar(self, at: int, dtype: Dtype, data: Any) -> Any:
        if isinstance(data, BytesAt):
            data = self.reader.bytes(data)
        if not _fits(dtype, data):
            raise _malformed(at, "the scalar's data does not fit its dtype")
        try:
            descriptor = np.dtype(dtype.text)
            if dtype.kind in "Mm":
                # the type alone would lose the time unit
                return np.array(data, descriptor)[()]
            return descriptor.type(data)
        except _NUMPY_ERRORS as error:
            raise _refused_by_numpy(error) from error


def _fits(dtype: Dtype, data: Any) -> bool:
    """Whether the data is a valid value of the dtype. numpy's constructors accept more.

    Some of that does harm: `numpy.bytes_(n)` allocates n bytes, and integers that are too large
    wrap around in numpy 1.
    """
    kind, bits = dtype.kind, 8 * dtype.item_size
    if kind == "i" and type(data) is int:
        return -(1 << (bits - 1)) <= data < 1 << (bits - 1)
    if kind == "u" and type(data) is int:
        return 0 <= data < 1 << bits
    return isinstance(data, _DATA_TYPES[kind]) and (kind == "b" or not isinstance(data, bool))


def _check_size(dtype: Dtype, shape: list[int], got: int) -> None:
    # a size of 0 must not hide an overflow of the others: numpy computes strides from them
    largest = max(dtype.item_size, 1) * math.prod(size for size in shape if size)
    expected = math.prod(shape) * dtype.item_size if largest < 1 << 63 else (1 << 64) - 1
    if expected != got:
        raise CodecError(
            f"array of dtype {dtype.text} and shape {shape} has {got} bytes of data, "
            f"expected {expected}"
        )


def _malformed(at: int, reason: str) -> CodecError:
    return CodecError(f"array at byte {at} is malformed: {reason}")


def _refused_by_numpy(error: Exception) -> CodecError:
    return CodecError(f"numpy refused: {error}")


# a warning, if the user turned warnings into errors
_NUMPY_ERRORS = (ValueError, TypeError, OverflowError, RuntimeWarning)
_MARKERS = frozenset({"__ndarray__", "__npgeneric__", b"__ndarray__", b"__npgeneric__"})
_DATA_TYPES: dict[str, tuple[type, ...]] = {
    "b": (bool,),
    "i": (),
    "u": (),
    "f": (float, int),
    "U": (str,),
    "S": (bytes,),
    "M": (int, type(None)),
    "m": (int, type(None)),
}

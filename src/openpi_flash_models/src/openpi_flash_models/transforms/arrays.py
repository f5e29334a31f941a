"""Parses arrays of a request; an error names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from openpi_flash_models.errors import ObservationError

_LARGEST = float(np.finfo(np.float32).max)
_DIALECTS = ("nd", "__ndarray__", "__nd__", "data", "dtype", "shape", "type")


def parse_array(value: Any, key: str) -> np.ndarray:
    """A client's array, of any type.

    Args:
        value: an array, a number, or lists of numbers.
        key: what the client calls it, for the error.

    Raises:
        ObservationError: it is no array.
    """
    if isinstance(value, Mapping):
        names = ", ".join(sorted(_name(name) for name in value)[:4])
        hint = ""
        if {_name(name) for name in value} & set(_DIALECTS):
            hint = "; arrays travel as openpi_client.msgpack_numpy packs them, with bytes as keys"
        raise ObservationError(key, f"expected an array, got a map with the keys {names}{hint}")
    if value is None or isinstance(value, str | bytes | bytearray):
        what = "nothing" if value is None else f"{type(value).__name__} of length {len(value)}"
        raise ObservationError(key, f"expected an array, got {what}")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ObservationError(key, f"expected an array, got {_lists(value)}") from error
    if array.dtype.kind == "O":
        raise ObservationError(key, f"expected an array of numbers, got {_objects(array)}")
    return array


def parse_numbers(value: Any, key: str) -> np.ndarray:
    """A client's finite numbers, small enough for float32.

    Args:
        value: as for :func:`parse_array`.
        key: likewise.

    Raises:
        ObservationError: it is no array, holds something else, or a number that cannot be used.
    """
    array = parse_array(value, key)
    if array.dtype.kind not in "fiu":
        raise ObservationError(key, f"expected numbers, got {_kind(array)}")
    refuse_unusable(array, key)
    return array


def refuse_unusable(numbers: np.ndarray, key: str) -> None:
    """Refuse numbers that no model can compute with.

    Raises:
        ObservationError: one is not finite, or too large for float32; says where.
    """
    usable = np.isfinite(numbers) & (np.abs(numbers.astype(np.float64)) <= _LARGEST)
    if usable.all():
        return
    place = np.argwhere(~usable)[0].tolist()
    number = numbers[tuple(place)]
    problem = "is not finite" if not np.isfinite(number) else "is too large for float32"
    at = f", at {place}" if place else ""
    raise ObservationError(key, f"holds a value that {problem}{at}: {number:.6g}")


def _name(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _lists(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "lists of different lengths"
    return type(value).__name__


def _objects(array: np.ndarray) -> str:
    kinds = sorted({type(item).__name__ for item in array.reshape(-1)[:1000]})
    if "int" in kinds and len(kinds) == 1:
        return "whole numbers of more than 64 bits"
    return f"a mix of {', '.join(kinds[:4])}" if kinds else "an empty array of objects"


def _kind(array: np.ndarray) -> str:
    names = {"b": "true and false", "U": "text", "S": "bytes", "c": "complex numbers"}
    return names.get(array.dtype.kind, str(array.dtype))

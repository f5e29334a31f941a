"""Reads `inputs` of a policy's or a server's metadata (docs/protocol.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openpi_flash_models.robots.robot_input import RobotInput
from openpi_flash_models.robots.vocabulary import INPUT_KINDS, ROTATION_SIZES, UNITS, check_word


def parse_inputs(inputs: Any) -> tuple[RobotInput, ...]:
    """The inputs that a list of maps describes.

    Raises:
        ValueError: names the input and what is wrong with it.
    """
    if not isinstance(inputs, list | tuple) or not all(isinstance(e, Mapping) for e in inputs):
        raise ValueError("inputs is no list of maps")
    return tuple(map(_parse_input, inputs))


def _parse_input(given: Mapping[str, Any]) -> RobotInput:
    path = given.get("path")
    keys = (path,) if isinstance(path, str) else tuple(path or ())
    if not keys or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"an input's path is {path!r}, expected the keys that lead to it")
    place = f"input {'/'.join(keys)}"
    unknown = sorted(given.keys() - _KEYS)
    if unknown:
        raise ValueError(f"{place} has no {unknown[0]}, known are {', '.join(sorted(_KEYS))}")
    kind = str(given.get("kind"))
    check_word(place, "kind", kind, INPUT_KINDS)
    shape = _shape(place, kind, given.get("shape", ()))
    numbers = 0 if kind in ("image", "text") else shape[0]
    names = _words(place, "names", given.get("names", ()), numbers)
    unit = given.get("units", given.get("unit", ""))
    if isinstance(unit, str):
        unit = (unit,) * numbers if unit else ()
    units = _words(place, "units", unit, numbers)
    for word in units:
        check_word(place, "unit", word, UNITS)
    rotation = str(given.get("rotation", ""))
    if rotation:
        check_word(place, "rotation", rotation, ROTATION_SIZES)
    return RobotInput(
        path=keys,
        kind=kind,  # type: ignore[arg-type]  # checked above
        shape=shape,
        names=names,
        units=units,
        frame=str(given.get("frame", "")),
        rotation=rotation,
        required=bool(given.get("required", True)),
    )


def _shape(place: str, kind: str, given: Any) -> tuple[int, ...]:
    shape = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"{place}: shape is {given!r}, expected whole numbers above 0")
    if kind == "text" and shape:
        raise ValueError(f"{place}: shape is {list(shape)}, expected none for text")
    if kind == "image" and (len(shape) != 3 or 3 not in (shape[0], shape[2])):
        raise ValueError(
            f"{place}: shape is {list(shape)}, expected [height, width, 3] or [3, height, width]"
        )
    if kind not in ("image", "text") and not shape:
        raise ValueError(f"{place}: shape is missing, expected how many numbers it has")
    return shape


def _words(place: str, what: str, given: Any, numbers: int) -> tuple[str, ...]:
    words = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"{place}: {what} is {given!r}, expected a list of text")
    if words and len(words) != numbers:
        raise ValueError(f"{place} has {len(words)} {what} for {numbers} numbers")
    return words


_KEYS = {"path", "kind", "shape", "names", "unit", "units", "frame", "rotation", "required"}

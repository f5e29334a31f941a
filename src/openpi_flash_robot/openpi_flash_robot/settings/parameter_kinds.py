"""The type and range of a parameter, and the check of a value against them."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ParameterValue = bool | int | float | str | tuple[str, ...] | tuple[float, ...]


class ParameterError(ValueError):
    """A parameter is missing, unknown, of the wrong type or out of range. Raised for the user."""


class ParameterKind(enum.Enum):
    """The ROS types in use, by their names in the documentation."""

    BOOL = "bool"
    INTEGER = "integer"
    DOUBLE = "double"
    STRING = "string"
    STRINGS = "list of strings"
    DOUBLES = "list of doubles"

    @property
    def with_article(self) -> str:
        """The name with its article, for sentences."""
        return f"{'an' if self is ParameterKind.INTEGER else 'a'} {self.value}"


@dataclass(frozen=True)
class Parameter:
    """One parameter of the node.

    Attributes:
        name: as in the YAML; `<name>` stands for each entry of the list that `each_of` names.
        kind: its type.
        default: used if it is not given; an empty list or string means "none".
        text: what it does, for a person.
        unit: of the value, or of each value of a list.
        low: smallest value allowed.
        high: largest value allowed.
        choices: the only values allowed; empty allows all.
        dynamic: may be changed while the node runs.
        is_secret: no message and no other node may see the value.
        each_of: name of the list parameter whose every entry has a parameter of this kind.
        may_be_infinite: whether an infinity is a value, for no limit.
        may_be_one: of a list: whether one value may stand for a list of equal ones.
    """

    name: str
    kind: ParameterKind
    default: ParameterValue
    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False
    is_secret: bool = False
    each_of: str = ""
    may_be_infinite: bool = False
    may_be_one: bool = False

    def named(self, entry: str) -> str:
        """The full name of this parameter for one entry of `each_of`."""
        return self.name.replace("<name>", entry)

    def parse(self, value: Any, name: str | None = None) -> ParameterValue:
        """Turn what ROS holds into a value of this kind, or raise.

        Raises:
            ParameterError: the type is wrong or the value is not allowed.
        """
        name = name or self.name
        if self.may_be_one and isinstance(value, str):
            value = [value]
        parsed = _converted(self.kind, value)
        if parsed is None and self.is_secret:
            raise ParameterError(
                f"parameter {name} must be {self.kind.with_article}; write it in quotes"
            )
        if parsed is None:
            raise ParameterError(
                f"parameter {name} must be {self.kind.with_article}, got {value!r}"
            )
        items = parsed if isinstance(parsed, tuple) else (parsed,)
        if self.choices and any(item not in self.choices for item in items):
            raise ParameterError(
                f"parameter {name} must be one of {', '.join(self.choices)}, got {value!r}"
            )
        for number in items:
            if isinstance(number, (str, bool)):
                continue
            if math.isinf(number) and self.may_be_infinite:
                continue
            if not math.isfinite(number):
                raise ParameterError(f"parameter {name} must be finite, got {value!r}")
            if (self.low is not None and number < self.low) or (
                self.high is not None and number > self.high
            ):
                raise ParameterError(f"parameter {name} must be {self.range_text()}, got {value!r}")
        return parsed

    def range_text(self) -> str:
        """The allowed range in words; empty if there is none."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}{unit}"
        if self.low is not None:
            return f"at least {self.low:g}{unit}"
        if self.high is not None:
            return f"at most {self.high:g}{unit}"
        return ""


NO_NAMES = [""]
"""An empty list of names, in a form that ROS can write to a file and read again."""


def _converted(kind: ParameterKind, value: Any) -> ParameterValue | None:
    """The value as the kind's Python type; None if it is something else."""
    if kind is ParameterKind.STRINGS:
        return _strings(value)
    if kind is ParameterKind.DOUBLES:
        return _doubles(value)
    if kind is ParameterKind.DOUBLE:
        return float(value) if _is_number(value) else None
    parsed: ParameterValue = value
    return parsed if type(value) is _PYTHON_TYPES[kind] else None


def _strings(value: Any) -> tuple[str, ...] | None:
    if value == NO_NAMES:
        return ()
    if not _is_list(value) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(value)


def _doubles(value: Any) -> tuple[float, ...] | None:
    if _is_number(value):
        return (float(value),)
    if not _is_list(value) or not all(map(_is_number, value)):
        return None
    return tuple(map(float, value))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_PYTHON_TYPES: dict[ParameterKind, type] = {
    ParameterKind.BOOL: bool,
    ParameterKind.INTEGER: int,
    ParameterKind.STRING: str,
}

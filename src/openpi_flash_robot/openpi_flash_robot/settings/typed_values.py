"""Typed access to the values of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from openpi_flash_robot.nanoseconds import from_seconds
from openpi_flash_robot.settings.parameter_kinds import ParameterError, ParameterValue
from openpi_flash_robot.settings.state_inputs import RequestPath

T = TypeVar("T")


class Values:
    """Typed access to values that `parse_values` has checked.

    Every method raises ParameterError for a value that does not fit.
    """

    def __init__(self, values: Mapping[str, ParameterValue]) -> None:
        self._values = values

    def get(self, name: str, kind: type[T]) -> T:
        """The value, which the table says is of this type."""
        value = self._values[name]
        assert isinstance(value, kind), name
        return value

    def seconds(self, name: str) -> int:
        """A length of time in nanoseconds."""
        return from_seconds(self.get(name, float))

    def required(self, name: str, hint: str) -> str:
        """A text that is not empty; `hint` tells what to do."""
        value = self.get(name, str)
        if not value:
            raise ParameterError(f"parameter {name} is not set; {hint}")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names that are all there and all different."""
        names = tuple(str(item) for item in self.get(name, tuple))
        if "" in names:
            raise ParameterError(f"parameter {name} has an empty name in it")
        twice = sorted({item for item in names if names.count(item) > 1})
        if twice:
            raise ParameterError(f"parameter {name} has {', '.join(twice)} more than once")
        return names

    def path(self, name: str, hint: str) -> RequestPath:
        """Keys with dots between them."""
        path = tuple(self.required(name, hint).split("."))
        if "" in path:
            raise ParameterError(f"parameter {name} has an empty key between its dots")
        return path

    def some_of(self, name: str, known: tuple[str, ...], of: str) -> tuple[str, ...]:
        """Names of a list that are all among the known ones, which the parameter `of` has."""
        some = self.names(name)
        for item in some:
            if item not in known:
                raise ParameterError(f"{name} has {item}, which is not one of {of}")
        return some

    def per_joint(self, name: str, joints: tuple[str, ...]) -> tuple[float, ...]:
        """One value per joint or axis, from one for all of them or one for each."""
        return self.numbers(name, len(joints), "joints")

    def numbers(self, name: str, count: int, what: str) -> tuple[float, ...]:
        """So many numbers, from one for all of them or one for each."""
        values = tuple(float(item) for item in self.get(name, tuple))
        if len(values) == 1:
            return values * count
        if len(values) != count:
            raise ParameterError(f"parameter {name} has {len(values)} values for {count} {what}")
        return values

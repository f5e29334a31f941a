"""Limits of joints from outside the parameters: the tightest of all sources counts.

The parameters say what a robot should do. Its description and its limits file say what it can do,
so they only ever narrow the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import check_jerk


@dataclass(frozen=True)
class Bounds:
    """What a joint may do by one source.

    Attributes:
        lower: rad or m; -inf for none.
        upper: rad or m; inf for none.
        velocity: rad/s or m/s; inf for none.
        acceleration: rad/s^2 or m/s^2; inf for none.
        jerk: rad/s^3 or m/s^3; inf for none.
    """

    lower: float = -math.inf
    upper: float = math.inf
    velocity: float = math.inf
    acceleration: float = math.inf
    jerk: float = math.inf


@dataclass(frozen=True)
class BoundSource:
    """Where bounds come from.

    Attributes:
        name: the topic or file, for people.
        joints: the bounds of each joint that it knows.
    """

    name: str
    joints: Mapping[str, Bounds] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """The limit that counts for an axis.

    Attributes:
        parameter: the parameter that it belongs to.
        value: in the parameter's unit.
        source: the parameter itself, or the source that is tighter.
    """

    parameter: str
    value: float
    source: str

    def __str__(self) -> str:
        return f"{self.parameter} {self.value:g} ({self.source})"


_FIELDS = {
    "position_lower": "lower",
    "position_upper": "upper",
    "max_velocity": "velocity",
    "max_acceleration": "acceleration",
    "max_jerk": "jerk",
}
"""The parameter that each bound narrows."""


def limits_of(
    settings: NodeSettings, sources: Sequence[BoundSource]
) -> dict[str, tuple[Limit, ...]]:
    """By axis, its five limits in the order of the parameters above, the tightest of all sources.

    Args:
        settings: with the parameters' own limits.
        sources: a joint that a source does not know, or gives no room, is not narrowed by it.
    """
    return {
        axis: tuple(
            _tightest(parameter, getattr(settings.player, parameter)[index], axis, sources)
            for parameter in _FIELDS
        )
        for index, axis in enumerate(settings.axes)
    }


def _tightest(parameter: str, own: float, axis: str, sources: Sequence[BoundSource]) -> Limit:
    limit = Limit(parameter, own, parameter)
    for source in sources:
        bounds = source.joints.get(axis, Bounds())
        if bounds.lower >= bounds.upper:
            continue
        value: float = getattr(bounds, _FIELDS[parameter])
        is_tighter = value > limit.value if parameter == "position_lower" else value < limit.value
        if is_tighter:
            limit = Limit(parameter, value, source.name)
    return limit


def bounded(settings: NodeSettings, sources: Sequence[BoundSource]) -> NodeSettings:
    """Settings whose limits do not go beyond those of any source.

    Where two of them leave a joint no position, the settings keep their own limits and say in
    `limit_conflict` why the robot must not be moved.

    Raises:
        ParameterError: the tightest limit of a jerk is too low for the acceleration.
    """
    limits = limits_of(settings, sources)
    conflicts = list(_conflicts(limits))
    if conflicts:
        return replace(settings, limit_conflict="; ".join(conflicts))
    columns = list(zip(*limits.values(), strict=True))
    changed: dict[str, Any] = {
        parameter: tuple(limit.value for limit in column)
        for parameter, column in zip(_FIELDS, columns, strict=True)
    }
    player = replace(settings.player, **changed)
    told = {axis: f"{axis}, by {of_axis[4].source}" for axis, of_axis in limits.items()}
    check_jerk(player, tuple(told.values()), settings.command_window_ns)
    return replace(settings, player=player, limit_conflict="")


def checked(settings: NodeSettings, sources: Sequence[BoundSource]) -> NodeSettings:
    """As `bounded`, for sources that belong to the parameters.

    Raises:
        ParameterError: as `bounded`, and where two limits leave a joint no position.
    """
    result = bounded(settings, sources)
    if result.limit_conflict:
        raise ParameterError(result.limit_conflict)
    return result


def _conflicts(limits: Mapping[str, tuple[Limit, ...]]) -> Iterator[str]:
    for axis, (lower, upper, *_) in limits.items():
        if lower.value >= upper.value:
            yield (
                f"joint {axis} has no position left: {lower} is not below {upper}; one of them is "
                "of another robot, or in another unit"
            )


def told_limits(settings: NodeSettings, sources: Sequence[BoundSource]) -> list[str]:
    """A line for each axis that a source narrows: its limits, and where each comes from."""
    lines = []
    for axis, limits in limits_of(settings, sources).items():
        narrowed = [str(limit) for limit in limits if limit.source != limit.parameter]
        if narrowed:
            lines.append(f"limits of {axis}: {', '.join(narrowed)}")
    return lines

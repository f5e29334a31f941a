"""The limits of joints in a `joint_limits.yaml`, as MoveIt and ros2_control have it.

Format: `joint_limits.<joint>.has_velocity_limits`, `max_velocity` and so on, of ros2_control's
`joint_limits_rosparam.hpp` and MoveIt's `config/joint_limits.yaml`. The section may stand at the
top of the file, or below a node's name and `ros__parameters`. A value counts if its `has_` key is
true. `!degrees` and `!radians` are those of xacro.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from openpi_flash_robot.settings.bounds import Bounds, BoundSource, checked
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError

SECTION = "joint_limits"
DEEPEST = 4
"""Levels above the section at most."""

SLOWEST, SOFTEST = 0.001, 0.01
"""The least max_velocity and max_acceleration of the parameters."""

UNUSED = frozenset(
    {
        "angle_wraparound",
        "has_effort_limits",
        "max_effort",
        "has_soft_limits",
        "k_position",
        "k_velocity",
        "soft_lower_limit",
        "soft_upper_limit",
    }
)
"""Keys of the format that limit nothing which is commanded here."""

_LEAST = {
    "max_velocity": ("has_velocity_limits", SLOWEST),
    "max_acceleration": ("has_acceleration_limits", SOFTEST),
    "max_deceleration": ("has_deceleration_limits", SOFTEST),
    "max_jerk": ("has_jerk_limits", SOFTEST),
}
"""By the key of a greatest value: what says whether it counts, and how small it may be."""

_KEYS = UNUSED.union(
    _LEAST,
    (has for has, _ in _LEAST.values()),
    ("has_position_limits", "min_position", "max_position"),
)


def limits_from_file(settings: NodeSettings) -> tuple[BoundSource, ...]:
    """The bounds of the file that the parameters name; none if they name none.

    Raises:
        ParameterError: the file cannot be read, is no file of limits, knows none of the robot's
            axes, or contradicts the parameters.
    """
    if not settings.joint_limits_file:
        return ()
    path = settings.joint_limits_file
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"joint_limits_file {path} cannot be read: {error}") from None
    source = BoundSource(path, parse_joint_limits(text, path))
    if not source.joints.keys() & set(settings.axes):
        raise ParameterError(
            f"joint_limits_file {path} has limits of {', '.join(sorted(source.joints))}, and of "
            f"none of this robot's {', '.join(settings.axes)}; its joints need the same names"
        )
    checked(settings, [source])
    return (source,)


def parse_joint_limits(text: str, name: str) -> dict[str, Bounds]:
    """The bounds of every joint in the text.

    Args:
        text: YAML.
        name: of the file, for messages.

    Raises:
        ParameterError: names the file, and the joint, key and value where it is one of these.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ParameterError(f"joint_limits_file {name} is not YAML: {error}") from None
    found: dict[str, Bounds] = {}
    for section in _sections(content, DEEPEST):
        for joint, entry in section.items():
            bounds = _bounds(entry, f"joint_limits_file {name}: joint_limits.{joint}")
            found[str(joint)] = _tighter(found.get(str(joint), Bounds()), bounds)
    if not found:
        raise ParameterError(
            f"joint_limits_file {name} has no joint_limits with joints in it; it begins with "
            "`joint_limits:` above the joints' names, and `has_velocity_limits` and so on below"
        )
    return found


def _sections(content: Any, depth: int) -> Iterator[Mapping[Any, Any]]:
    if not isinstance(content, Mapping) or depth == 0:
        return
    for key, value in content.items():
        if key == SECTION and isinstance(value, Mapping):
            yield value
        else:
            yield from _sections(value, depth - 1)


def _bounds(entry: Any, where: str) -> Bounds:
    if not isinstance(entry, Mapping):
        raise ParameterError(f"{where} is {entry!r}, expected keys such as has_velocity_limits")
    for key in entry:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"; is it {near[0]}" if near else ""
            raise ParameterError(f"{where}.{key} is not a key of joint limits{hint}")
    most = {key: _most(entry, key, where) for key in _LEAST}
    lower, upper = -math.inf, math.inf
    if _has(entry, "has_position_limits", where):
        lower = _number(entry, "min_position", where)
        upper = _number(entry, "max_position", where)
        if lower >= upper:
            raise ParameterError(
                f"{where}.min_position is {lower:g}, which is not below max_position {upper:g}"
            )
    return Bounds(
        lower=lower,
        upper=upper,
        velocity=most["max_velocity"],
        # braking is limited like speeding up
        acceleration=min(most["max_acceleration"], most["max_deceleration"]),
        jerk=most["max_jerk"],
    )


def _most(entry: Mapping[Any, Any], key: str, where: str) -> float:
    has, least = _LEAST[key]
    if not _has(entry, has, where):
        return math.inf
    value = _number(entry, key, where)
    if value < least:
        raise ParameterError(f"{where}.{key} is {value:g}, expected {least:g} or more")
    return value


def _has(entry: Mapping[Any, Any], key: str, where: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise ParameterError(f"{where}.{key} is {value!r}, expected true or false")
    return value


def _number(entry: Mapping[Any, Any], key: str, where: str) -> float:
    value: Any = entry.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        told = "missing" if key not in entry else repr(value)
        raise ParameterError(f"{where}.{key} is {told}, expected a number")
    return float(value)


def _tighter(one: Bounds, other: Bounds) -> Bounds:
    return Bounds(
        max(one.lower, other.lower),
        min(one.upper, other.upper),
        min(one.velocity, other.velocity),
        min(one.acceleration, other.acceleration),
        min(one.jerk, other.jerk),
    )


class _Loader(yaml.SafeLoader):
    """Makes no objects, as its base; refuses a key that is there twice, of which YAML takes one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.YAMLError(f"{key} is there twice, {key_node.start_mark}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _angle(factor: float) -> Any:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> float:
        text = str(loader.construct_scalar(node))
        try:
            return float(text) * factor
        except ValueError:
            raise yaml.YAMLError(f"{node.tag} {text} is no number, {node.start_mark}") from None

    return construct


_Loader.add_constructor("!degrees", _angle(math.pi / 180.0))
_Loader.add_constructor("!radians", _angle(1.0))

"""The parameter table in ROS: declared, read, and changed while the node runs.

The node is made with `automatically_declare_parameters_from_overrides`, so that everything the
user set is here, a misspelt name too. What is known is declared again with its descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from openpi_flash_robot.settings.node_settings import (
    SECRET_IS_NOT_SET,
    SECRET_IS_SET,
    NodeSettings,
)
from openpi_flash_robot.settings.parameter_kinds import (
    NO_NAMES,
    Parameter,
    ParameterError,
    ParameterKind,
    ParameterValue,
)
from openpi_flash_robot.settings.parameter_table import expand
from openpi_flash_robot.settings.parse_settings import settings_from_parameters


class RosParameters:
    """The node's parameters as ROS holds them."""

    def __init__(self, node: Node, secrets: Mapping[str, Any]) -> None:
        """Declare the table's parameters on the node. Never fails: `settings` tells.

        Args:
            node: with every parameter that the user set already declared.
            secrets: the values of the secret ones, of which the node holds `set`.
        """
        self._node = node
        self._secrets = secrets
        self._dynamic: set[str] = set()
        given = self._given()
        try:
            expanded = expand(given)
        except ParameterError:
            return
        for name, parameter in expanded.items():
            if parameter.dynamic:
                self._dynamic.add(name)
            if parameter.is_secret:
                is_set = name in secrets or given.get(name) == SECRET_IS_SET
                self._declare_secret(name, parameter, is_set=is_set)
                continue
            if name not in given:
                self._declare(name, parameter, parameter.default)
                continue
            try:
                value = parameter.parse(given[name], name)
            except ParameterError:
                continue
            node.undeclare_parameter(name)
            self._declare(name, parameter, value)

    def settings(self) -> NodeSettings:
        """Everything the user set, checked.

        Raises:
            ParameterError: something is unknown, missing or does not fit.
        """
        return settings_from_parameters(self._given())

    def flag(self, name: str) -> bool:
        """A parameter of type bool; its default if what is set is none."""
        parameter = expand({})[name]
        value = self._given().get(name)
        return value if isinstance(value, bool) else bool(parameter.default)

    def on_change(
        self,
        apply: Callable[[NodeSettings], None],
        check: Callable[[NodeSettings], object] = bool,
    ) -> Callable[..., SetParametersResult]:
        """Check changes from now on and hand good ones over; returns the callback to remove.

        Args:
            apply: takes good ones.
            check: raises ParameterError for settings that do not fit what is configured.
        """

        def changed(parameters: Iterable[RosParameter]) -> SetParametersResult:
            ours = {p.name: _plain(p.value) for p in parameters if not _is_foreign(p.name)}
            fixed = sorted(set(ours) - self._dynamic)
            if fixed:
                return SetParametersResult(
                    successful=False, reason=f"{', '.join(fixed)} cannot change while configured"
                )
            try:
                settings = settings_from_parameters(self._given() | ours)
                check(settings)
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
            if ours:
                apply(settings)
            return SetParametersResult(successful=True)

        self._node.add_on_set_parameters_callback(changed)
        return changed

    def _given(self) -> dict[str, Any]:
        """Every parameter that has a value."""
        parameters: dict[str, Any] = dict(self._node.get_parameters_by_prefix(""))
        public = {
            name: _plain(parameter.value)
            for name, parameter in parameters.items()
            if parameter.value is not None and not _is_foreign(name)
        }
        return public | {name: _plain(value) for name, value in self._secrets.items()}

    def _declare_secret(self, name: str, parameter: Parameter, *, is_set: bool) -> None:
        if self._node.has_parameter(name):
            self._node.undeclare_parameter(name)
        self._declare(name, parameter, SECRET_IS_SET if is_set else SECRET_IS_NOT_SET)

    def _declare(self, name: str, parameter: Parameter, value: ParameterValue) -> None:
        descriptor = descriptor_of(parameter, name)
        # a parameter without a value would end `ros2 param dump`
        plain = NO_NAMES if value == () else list(value) if isinstance(value, tuple) else value
        self._node.declare_parameter(name, plain, descriptor, ignore_override=True)


def descriptor_of(parameter: Parameter, name: str) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    descriptor = ParameterDescriptor(
        name=name,
        type=_ROS_TYPES[parameter.kind].value,
        description=f"{parameter.text}{f' [{parameter.unit}]' if parameter.unit else ''}",
        additional_constraints=", ".join(parameter.choices) or parameter.range_text(),
        read_only=not parameter.dynamic,
        # one number may stand for a list of equal ones
        dynamic_typing=parameter.kind is ParameterKind.DOUBLES or parameter.may_be_one,
    )
    low, high = parameter.low, parameter.high
    if low is not None and high is not None:
        if parameter.kind is ParameterKind.INTEGER:
            descriptor.integer_range = [
                IntegerRange(from_value=int(low), to_value=int(high), step=0)
            ]
        elif parameter.kind is ParameterKind.DOUBLE:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=low, to_value=high, step=0.0)
            ]
    return descriptor


def _is_foreign(name: str) -> bool:
    """Whether rclpy itself has put this parameter on the node."""
    return name in _RCLPY_NAMES or name.startswith("qos_overrides.")


def _plain(value: Any) -> Any:
    """Lists for what rclpy holds as arrays."""
    return value.tolist() if hasattr(value, "tolist") else value


_RCLPY_NAMES = frozenset({"use_sim_time", "start_type_description_service"})
_ROS_TYPES = {
    ParameterKind.BOOL: RosParameter.Type.BOOL,
    ParameterKind.INTEGER: RosParameter.Type.INTEGER,
    ParameterKind.DOUBLE: RosParameter.Type.DOUBLE,
    ParameterKind.STRING: RosParameter.Type.STRING,
    ParameterKind.STRINGS: RosParameter.Type.STRING_ARRAY,
    ParameterKind.DOUBLES: RosParameter.Type.DOUBLE_ARRAY,
}

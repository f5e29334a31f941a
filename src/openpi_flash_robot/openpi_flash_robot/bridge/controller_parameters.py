"""Whether a joint trajectory controller is set so that what this node sends moves it smoothly.

The parameters are those of ros2_control's joint_trajectory_controller. Every window that it is sent
ends at rest, so that `allow_nonzero_velocity_at_trajectory_end` does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openpi_flash_robot.settings.controllers import Controller

PARAMETER_NAMES = (
    "joints",
    "allow_partial_joints_goal",
    "interpolate_from_desired_state",
    "open_loop_control",
    "interpolation_method",
    "cmd_timeout",
)
"""What a controller is asked for, one by one: rclcpp answers nothing if it lacks one of several."""


@dataclass(frozen=True)
class ControllerParameters:
    """What a controller answered; None for what it does not have.

    Attributes:
        node: full name of its node.
        joints: that a trajectory has to name.
        allow_partial_joints_goal: whether a trajectory may leave joints out.
        interpolate_from_desired_state: whether a new trajectory begins where the controller wants
            the joints to be, and not where they are measured (Jazzy and later).
        open_loop_control: the same on Humble.
        interpolation_method: `splines`, or `none` for steps from point to point.
        cmd_timeout: s after a trajectory's end; then the measured position is held. 0 is never.
        kind: type of the controller, by its manager.
    """

    node: str
    joints: tuple[str, ...] | None = None
    allow_partial_joints_goal: bool | None = None
    interpolate_from_desired_state: bool | None = None
    open_loop_control: bool | None = None
    interpolation_method: str | None = None
    cmd_timeout: float | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What is wrong with a controller's parameters, for people.

    Attributes:
        objections: what would move the arm with jerks, or not at all.
        warnings: what else may surprise.
    """

    objections: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def parameters_from(node: str, values: Mapping[str, Any], kind: Any) -> ControllerParameters:
    """What was read, without what is of another type than a trajectory controller's.

    Args:
        node: full name of the controller's node.
        values: by the parameters' names.
        kind: what its manager says of its type.
    """

    def read(name: str, *types: type) -> Any:
        value = values.get(name)
        return value if type(value) in types else None

    joints, timeout = read("joints", list, tuple), read("cmd_timeout", float, int)
    return ControllerParameters(
        node,
        joints=tuple(map(str, joints)) if joints else None,
        allow_partial_joints_goal=read("allow_partial_joints_goal", bool),
        interpolate_from_desired_state=read("interpolate_from_desired_state", bool),
        open_loop_control=read("open_loop_control", bool),
        interpolation_method=read("interpolation_method", str),
        cmd_timeout=None if timeout is None else float(timeout),
        kind=kind if isinstance(kind, str) and kind else None,
    )


def judge(controller: Controller, read: ControllerParameters) -> Judgement:
    """Hold a controller's parameters against what this node sends it."""
    who = f"controller {controller.name} ({read.node})"
    return Judgement(
        tuple(f"{who} {what}" for what in _objections(controller, read)),
        tuple(f"{who} {what}" for what in _warnings(read)),
    )


def _objections(controller: Controller, read: ControllerParameters) -> Iterator[str]:
    if read.joints is not None:
        yield from _joint_objections(controller, read.joints, read)
    interpolates, is_open = read.interpolate_from_desired_state, read.open_loop_control
    if interpolates is False or is_open is False:
        name = "open_loop_control" if interpolates is None else "interpolate_from_desired_state"
        if not interpolates and not is_open:
            yield (
                f"has {name} false: each command would begin at the measured position instead of "
                f"the commanded one, with a jerk; {_set(read, name, 'true')}"
            )
    if read.interpolation_method == "none":
        yield (
            f"has interpolation_method none: the arm would be sent from point to point in steps; "
            f"{_set(read, 'interpolation_method', 'splines')}"
        )


def _joint_objections(
    controller: Controller, joints: Sequence[str], read: ControllerParameters
) -> Iterator[str]:
    parameter = f"controller.{controller.name}.joints"
    unknown = [joint for joint in controller.joints if joint not in joints]
    left_out = [joint for joint in joints if joint not in controller.joints]
    if unknown:
        yield (
            f"has joints {', '.join(joints)}, and not {', '.join(unknown)}: it would refuse every "
            f"command; set {parameter} to its joints"
        )
    elif left_out and not read.allow_partial_joints_goal:
        yield (
            f"has allow_partial_joints_goal false and joints {', '.join(left_out)} too: it would "
            f"refuse every command; add them to {parameter}, or "
            f"{_set(read, 'allow_partial_joints_goal', 'true')}"
        )


def _warnings(read: ControllerParameters) -> Iterator[str]:
    if read.cmd_timeout:
        yield (
            f"has cmd_timeout {read.cmd_timeout:g} s: so long after the last command it holds the "
            f"measured position instead of the commanded one, and a gripper lets go what it holds; "
            f"{_set(read, 'cmd_timeout', '0.0')}"
        )
    if read.kind is not None and "TrajectoryController" not in read.kind:
        yield (
            f"is a {read.kind}, and this node sends joint trajectories; see "
            f"`ros2 control list_controllers`"
        )


def _set(read: ControllerParameters, name: str, value: str) -> str:
    return (
        f"`ros2 param set {read.node} {name} {value}`, or where it is read-only, write it into the "
        f"controller's parameter file and load the controller again"
    )

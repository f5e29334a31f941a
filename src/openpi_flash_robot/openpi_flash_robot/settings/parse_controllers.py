"""The parameters of what is commanded: axes, grippers, controllers."""

from __future__ import annotations

from openpi_flash_robot.settings.controllers import AXES_OF, Controller, ControllerKind, Gripper
from openpi_flash_robot.settings.node_settings import PoseInput
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.state_inputs import Rotation
from openpi_flash_robot.settings.typed_values import Values

RATE_KINDS = ("velocity", "eef_delta", "base_twist")
"""Kinds of actions that say how fast to go."""


def parse_action_kinds(values: Values, axes: tuple[str, ...]) -> tuple[str, ...]:
    """What the policy's numbers mean, one for each axis; empty where nothing is said."""
    kinds = tuple(str(kind) for kind in values.get("action_kind", tuple)) or ("",)
    if len(kinds) == 1:
        return kinds * len(axes)
    if len(kinds) != len(axes):
        raise ParameterError(f"parameter action_kind has {len(kinds)} values for {len(axes)} axes")
    return kinds


def parse_grippers(values: Values, axes: tuple[str, ...]) -> tuple[Gripper, ...]:
    """The axes that are grippers."""
    return tuple(
        Gripper(
            joint=joint,
            closed=values.get(f"gripper.{joint}.closed", float),
            open=values.get(f"gripper.{joint}.open", float),
            policy_closed=values.get(f"gripper.{joint}.policy_closed", float),
            policy_open=values.get(f"gripper.{joint}.policy_open", float),
            threshold=values.get(f"gripper.{joint}.threshold", float),
        )
        for joint in values.some_of("gripper_joints", axes, "axes or joints")
    )


def parse_controllers(values: Values, axes: tuple[str, ...]) -> tuple[Controller, ...]:
    """The controllers; no two of them move one axis.

    Raises:
        ParameterError: an axis that is none, or that two controllers move; or there is no
            controller, and the robot is to move.
    """
    controllers = []
    owner: dict[str, str] = {}
    for name in values.names("controllers"):
        controller = _controller(values, name, axes)
        for joint in controller.joints:
            if joint in owner:
                raise ParameterError(
                    f"joint {joint} belongs to two controllers, {owner[joint]} and {name}"
                )
            owner[joint] = name
        controllers.append(controller)
    if not controllers and not values.get("dry_run", bool):
        raise ParameterError("parameter controllers is empty; without one only dry_run is possible")
    return tuple(controllers)


def _controller(values: Values, name: str, axes: tuple[str, ...]) -> Controller:
    prefix = f"controller.{name}"
    kind = ControllerKind(values.get(f"{prefix}.kind", str))
    group = values.some_of(f"{prefix}.joints", axes, "axes or joints") or axes
    allowed = AXES_OF.get(kind)
    if allowed is not None and len(group) not in allowed:
        raise ParameterError(
            f"{prefix}.joints has {len(group)} axes, and a controller of kind {kind.value} has "
            f"{' or '.join(map(str, allowed))}"
        )
    names = values.names(f"{prefix}.joint_names")
    if names and len(names) != len(group):
        raise ParameterError(
            f"{prefix}.joint_names has {len(names)} names, and {prefix}.joints has {len(group)}"
        )
    frame = values.get(f"{prefix}.frame", str)
    if kind in (ControllerKind.TWIST, ControllerKind.POSE) and not frame:
        what = "directions" if kind is ControllerKind.TWIST else "poses"
        raise ParameterError(
            f"parameter {prefix}.frame is not set; name the frame in which the policy's {what} "
            "count, such as base_link"
        )
    is_pose = kind is ControllerKind.POSE
    columns = tuple(axes.index(joint) for joint in group)
    if is_pose:
        _check_pose(values, prefix, columns)
    return Controller(
        name=name,
        topic=values.get(f"{prefix}.topic", str) or _TOPICS[kind].format(name=name),
        joints=group,
        columns=columns,
        kind=kind,
        frame=frame,
        is_stamped=values.get(f"{prefix}.stamped", bool),
        action=values.get(f"{prefix}.action", str) if kind is ControllerKind.GRIPPER else "",
        max_effort=values.get(f"{prefix}.max_effort", float),
        joint_names=names,
        rotation=Rotation(values.get(f"{prefix}.rotation", str)),
        pose_topic=values.get(f"{prefix}.pose_topic", str) if is_pose else "",
        child_frame=values.get(f"{prefix}.child_frame", str) if is_pose else "",
    )


def _check_pose(values: Values, prefix: str, columns: tuple[int, ...]) -> None:
    if columns != tuple(range(columns[0], columns[0] + len(columns))):
        raise ParameterError(
            f"{prefix}.joints of kind pose must stand next to each other in axes, in the same "
            "order: x, y, z and the rotation vector"
        )
    given = [key for key in ("pose_topic", "child_frame") if values.get(f"{prefix}.{key}", str)]
    if len(given) != 1:
        raise ParameterError(
            f"{prefix} of kind pose needs the measured pose: set one of {prefix}.pose_topic "
            f"(geometry_msgs/PoseStamped) and {prefix}.child_frame (by tf), "
            f"{'not both' if given else 'neither is set'}"
        )


def pose_inputs(
    controllers: tuple[Controller, ...], joints: tuple[str, ...]
) -> tuple[PoseInput, ...]:
    """The measured poses of the end effectors that are commanded.

    Raises:
        ParameterError: an axis of one is a joint.
    """
    poses = []
    for controller in controllers:
        if controller.kind is not ControllerKind.POSE:
            continue
        both = [axis for axis in controller.joints if axis in joints]
        if both:
            raise ParameterError(
                f"{', '.join(both)} of controller {controller.name} are measured as a pose, and "
                "are also in joints; take them out of joints"
            )
        poses.append(
            PoseInput(
                controller.name,
                controller.joints,
                controller.frame,
                controller.pose_topic,
                controller.child_frame,
            )
        )
    return tuple(poses)


def check_unmoved(unmoved: tuple[str, ...], controllers: tuple[Controller, ...]) -> None:
    """Refuse an axis that is to be left alone, and that a controller moves.

    Raises:
        ParameterError: names both.
    """
    for controller in controllers:
        for joint in controller.joints:
            if joint in unmoved:
                raise ParameterError(
                    f"{joint} is one of unmoved_joints, and controller {controller.name} moves it; "
                    f"take it out of one of them"
                )


def check_measured(
    axes: tuple[str, ...],
    joints: tuple[str, ...],
    kinds: tuple[str, ...],
    controllers: tuple[Controller, ...],
    grippers: tuple[Gripper, ...],
) -> None:
    """Refuse an axis that is commanded to be somewhere, and that nobody measures.

    Raises:
        ParameterError: names it.
    """
    hands = {gripper.joint for gripper in grippers}
    for axis, kind in zip(axes, kinds, strict=True):
        owner = next((c for c in controllers if axis in c.joints), None)
        if owner is None or axis in joints or axis in hands or kind == "gripper":
            continue
        if owner.kind.takes_rates and kind in RATE_KINDS:
            continue
        if owner.kind is not ControllerKind.GRIPPER:
            raise ParameterError(
                f"axis {axis} is commanded by {owner.name} and is not one of joints: where it is "
                "would not be known; add it to joints, or set its action_kind"
            )


_TOPICS = {
    ControllerKind.JOINT_TRAJECTORY: "/{name}/joint_trajectory",
    ControllerKind.POSITION: "/{name}/commands",
    ControllerKind.VELOCITY: "/{name}/commands",
    ControllerKind.JOINT_STATE: "/{name}/joint_command",
    ControllerKind.TWIST: "/servo_node/delta_twist_cmds",
    ControllerKind.POSE: "/servo_node/pose_target_cmds",
    ControllerKind.BASE: "/cmd_vel",
    ControllerKind.GRIPPER: "/{name}/gripper_cmd",
}

"""From the parameters that a user set to `NodeSettings`, checked against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from openpi_flash_robot.nanoseconds import from_seconds, to_seconds
from openpi_flash_robot.settings.node_settings import (
    DEFAULT_PORTS,
    SECRET_IS_NOT_SET,
    SECRET_IS_SET,
    TURNING,
    BlackBoxSettings,
    Direction,
    LinkSettings,
    NodeSettings,
    PlayerSettings,
    RecordSettings,
    StopSettings,
    TakeoverSettings,
)
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parameter_table import parse_values
from openpi_flash_robot.settings.parse_controllers import (
    check_measured,
    check_unmoved,
    parse_action_kinds,
    parse_controllers,
    parse_grippers,
    pose_inputs,
)
from openpi_flash_robot.settings.parse_observation import parse_observation
from openpi_flash_robot.settings.pose_columns import AXES, POSITION, PoseColumns, pose_columns
from openpi_flash_robot.settings.stop_states import StopState, StopStateKind
from openpi_flash_robot.settings.typed_values import Values


def settings_from_parameters(given: Mapping[str, Any]) -> NodeSettings:
    """Parse the parameters that the user set.

    Raises:
        ParameterError: a parameter is unknown, missing, of the wrong type, out of range, or does
            not fit another one.
    """
    values = Values(parse_values(given))
    joints = values.names("joints")
    axes = values.names("axes") or joints
    if not axes:
        raise ParameterError(
            "parameter joints is empty; name the robot's joints in policy order, in a parameter "
            "file below `/**:` (or the node's name) and `ros__parameters:`"
        )
    kinds = parse_action_kinds(values, axes)
    grippers, controllers = parse_grippers(values, axes), parse_controllers(values, axes)
    poses = pose_columns(controllers)
    action_columns = _action_columns(values, axes, poses)
    unmoved = values.some_of("unmoved_joints", axes, "axes or joints")
    check_unmoved(unmoved, controllers)
    observation = parse_observation(values, joints, pose_inputs(controllers, joints))
    check_measured(axes, observation.joints, kinds, controllers, grippers)
    return NodeSettings(
        link=_link(values),
        observation=observation,
        player=_player(values, axes, observation.joints, unmoved, poses),
        stops=StopSettings(
            emergency_stops=values.names("emergency_stop_topics"),
            enable=values.get("enable_topic", str),
            hold=values.get("hold_topic", str),
            timeout_ns=values.seconds("stop_timeout"),
            states=_stop_states(values),
        ),
        takeover=_takeover(values, axes),
        controllers=controllers,
        axes=axes,
        grippers=grippers,
        unmoved_joints=unmoved,
        action_columns=action_columns,
        action_kinds=kinds,
        action_scale=_action_scale(values, axes, poses),
        action_rate_hz=values.get("action_rate_hz", float),
        execution_horizon=values.get("execution_horizon", int),
        first_actions=values.get("first_actions", int),
        control_period_ns=from_seconds(1.0 / values.get("control_rate_hz", float)),
        command_window_ns=values.seconds("command_window"),
        activity_topic=values.get("activity_topic", str),
        hardware_components=values.names("hardware_components"),
        tracking_delay_ns=values.seconds("tracking_delay"),
        stamp_trajectories=values.get("trajectory_stamp", str) == "absolute",
        robot_description_topic=values.get("robot_description_topic", str),
        joint_limits_file=values.get("joint_limits_file", str),
        fault_after_ns=values.seconds("fault_after"),
        prompt=values.get("prompt", str),
        dry_run=values.get("dry_run", bool),
        wait_for_goal=values.get("wait_for_goal", bool),
        prompt_topic=values.get("prompt_topic", str),
        publish_subtask_text=values.get("publish_subtask_text", bool),
        black_box=BlackBoxSettings(
            length_ns=values.seconds("black_box_seconds"),
            folder=values.get("black_box_folder", str),
            files=values.get("black_box_files", int),
            has_images=values.get("black_box_images", bool),
        ),
        record=RecordSettings(
            folder=values.get("record_folder", str),
            jpeg_quality=values.get("record_jpeg_quality", int) or None,
        ),
    )


def _action_columns(
    values: Values, axes: tuple[str, ...], poses: tuple[PoseColumns, ...]
) -> tuple[str, ...]:
    """The server's names of the columns; more than axes where a rotation has more numbers."""
    more = sum(pose.rotation.size - (AXES - POSITION) for pose in poses)
    columns = values.names("action_columns") or (axes if not more else ())
    if len(columns) != len(axes) + more:
        what = f"{len(axes)} joints"
        if more:
            what = f"{len(axes)} axes, whose poses have {more} columns more than axes"
        raise ParameterError(f"parameter action_columns has {len(columns)} names for {what}")
    return columns


def _action_scale(
    values: Values, axes: tuple[str, ...], poses: tuple[PoseColumns, ...]
) -> tuple[float, ...]:
    scale = values.per_joint("action_scale", axes)
    rotations = [axes[axis] for pose in poses for axis in pose.rotation_axes]
    for axis, factor in zip(axes, scale, strict=True):
        if factor == 0.0:
            raise ParameterError(
                f"parameter action_scale is 0 for {axis}: it would never move; name an axis that "
                "is not to move in unmoved_joints"
            )
        if axis in rotations and factor != 1.0:
            raise ParameterError(
                f"parameter action_scale is {factor:g} for {axis}: a rotation is not scaled; set "
                "it to 1"
            )
    return scale


def _stop_states(values: Values) -> tuple[StopState, ...]:
    states = []
    for name in values.names("stop_states"):
        prefix = f"stop_state.{name}"
        kind = StopStateKind(values.get(f"{prefix}.kind", str))
        timeout_ns = values.seconds(f"{prefix}.timeout")
        if not kind.is_on_change and not timeout_ns:
            timeout_ns = values.seconds("stop_timeout")
            if not timeout_ns:
                raise ParameterError(
                    f"parameters {prefix}.timeout and stop_timeout are 0, and a {kind.value} is "
                    f"published all the time; set {prefix}.timeout, such as 0.5"
                )
        topic = values.get(f"{prefix}.topic", str) or kind.topic
        states.append(StopState(name, kind, topic, timeout_ns))
    return tuple(states)


def _takeover(values: Values, axes: tuple[str, ...]) -> TakeoverSettings:
    switch, topic = values.get("takeover_topic", str), values.get("teleop_topic", str)
    if bool(switch) != bool(topic):
        raise ParameterError("parameters takeover_topic and teleop_topic must both be set, or none")
    names = values.names("teleop_joints") or axes
    if len(names) != len(axes):
        raise ParameterError(f"parameter teleop_joints has {len(names)} names for {len(axes)} axes")
    return TakeoverSettings(
        switch_topic=switch,
        topic=topic,
        joints=names,
        timeout_ns=values.seconds("stop_timeout"),
        target_timeout_ns=values.seconds("max_blind_time"),
    )


def link_from_parameters(given: Mapping[str, Any]) -> LinkSettings:
    """The settings of the link alone, from its parameters.

    Raises:
        ParameterError: as `settings_from_parameters`.
    """
    return _link(Values(parse_values(given)))


def player_from_parameters(
    given: Mapping[str, Any], axes: tuple[str, ...], joints: tuple[str, ...]
) -> PlayerSettings:
    """The settings of the chunk player alone, from its parameters.

    Args:
        given: what the user set.
        axes: what is commanded.
        joints: those of them that are measured.

    Raises:
        ParameterError: as `settings_from_parameters`.
    """
    return _player(Values(parse_values(given)), axes, joints, ())


def _link(values: Values) -> LinkSettings:
    transport = values.get("transport", str)
    ways_to_trust = ("server_fingerprint", "ca_file", "known_servers")
    given = [name for name in ways_to_trust if values.get(name, str)]
    if len(given) > 1:
        raise ParameterError(
            f"parameters {' and '.join(given)} are set; each alone authenticates the server, set "
            "one of them"
        )
    host = values.required("server", "give the policy server's host name or address")
    relay, token_file = values.get("relay", str), values.get("relay_token_file", str)
    if bool(relay) != bool(token_file):
        both = ("relay", "relay_token_file") if relay else ("relay_token_file", "relay")
        raise ParameterError(f"parameter {both[0]} is set and {both[1]} is not; set both or none")
    if relay and transport == "websocket":
        raise ParameterError(
            f"parameter relay is {relay!r}, but transport is 'websocket', which no relay carries; "
            "set transport to quic"
        )
    port = values.get("port", int) or None
    return LinkSettings(
        host=host,
        port=port,
        server=f"{host}:{port or DEFAULT_PORTS[transport]}",
        transport=transport,
        api_key=_api_key(values),
        api_key_file=values.get("api_key_file", str),
        server_fingerprint=values.get("server_fingerprint", str),
        ca_file=values.get("ca_file", str),
        known_servers=values.get("known_servers", str),
        connect_timeout=values.get("connect_timeout", float),
        reconnect_delay_max=values.get("reconnect_delay_max", float),
        request_timeout=values.get("request_timeout", float),
        websocket_port=values.get("websocket_port", int) or None,
        insecure_fallback=values.get("insecure_fallback", bool),
        relay=relay,
        relay_token_file=token_file,
    )


def _api_key(values: Values) -> str:
    key = values.get("api_key", str)
    if key == SECRET_IS_SET:
        raise ParameterError(
            f"parameter api_key is {SECRET_IS_SET!r}, which is what it reads back as, in a file "
            "from `ros2 param dump` too; give the key itself in the file that api_key_file names"
        )
    return "" if key == SECRET_IS_NOT_SET else key


def _player(
    values: Values,
    axes: tuple[str, ...],
    joints: tuple[str, ...],
    unmoved: tuple[str, ...],
    poses: tuple[PoseColumns, ...] = (),
) -> PlayerSettings:
    lower = values.per_joint("position_lower", axes)
    upper = values.per_joint("position_upper", axes)
    for joint, low, high in zip(axes, lower, upper, strict=True):
        if low >= high:
            raise ParameterError(
                f"position_lower of {joint} ({low:g}) must be below its position_upper ({high:g})"
            )
    _check_rotation_limits(values, axes, poses)
    player = PlayerSettings(
        chunk_method=values.get("chunk_method", str),
        ensemble_decay=values.get("ensemble_decay", float),
        max_chunk_age_ns=values.seconds("max_chunk_age"),
        blend_ns=values.seconds("blend_time"),
        max_start_delta=tuple(
            math.inf if axis in unmoved else delta
            for axis, delta in zip(axes, values.per_joint("max_start_delta", axes), strict=True)
        ),
        max_tracking_error=tuple(
            # what is not measured, or moved by others, is not watched
            error if axis in joints and axis not in unmoved else 0.0
            for axis, error in zip(axes, values.per_joint("max_tracking_error", axes), strict=True)
        ),
        max_velocity=values.per_joint("max_velocity", axes),
        max_acceleration=values.per_joint("max_acceleration", axes),
        position_lower=lower,
        position_upper=upper,
        measured=tuple(axis in joints for axis in axes),
        lead_ns=values.seconds("min_lead_time"),
        is_commanded=not values.get("dry_run", bool),
        execution_horizon=values.get("execution_horizon", int),
        max_jerk=tuple(jerk or math.inf for jerk in values.per_joint("max_jerk", axes)),
        directions=tuple(
            Direction(tuple(group), is_rotation=group == pose.rotation_axes)
            for pose in poses
            for group in (range(pose.axis, pose.axis + POSITION), pose.rotation_axes)
        ),
    )
    check_jerk(player, axes, values.seconds("command_window"))
    return player


def check_jerk(player: PlayerSettings, axes: tuple[str, ...], window_ns: int) -> None:
    """Refuse a limit of the jerk that would put braking off for longer than a command lasts.

    Raises:
        ParameterError: names the axis, its limits, and what would do.
    """
    if player.smoothing_ns <= window_ns:
        return
    limits = zip(axes, player.max_acceleration, player.max_jerk, strict=True)
    axis, acceleration, jerk = max(limits, key=lambda limit: limit[1] / limit[2])
    window = to_seconds(window_ns)
    raise ParameterError(
        f"max_jerk of {axis} ({jerk:g}) is too low for its max_acceleration ({acceleration:g}): "
        f"motions would be averaged over {2.0 * acceleration / jerk:.3g} s, which is longer than "
        f"command_window ({window:g} s), and braking would begin too late; set max_jerk to "
        f"{math.ceil(2.0 * acceleration / window):d} or more, or max_acceleration to "
        f"{jerk * window / 2:g} or less"
    )


def _check_rotation_limits(
    values: Values, axes: tuple[str, ...], poses: tuple[PoseColumns, ...]
) -> None:
    """Refuse limits that a rotation cannot have.

    Its vector's numbers are no angles by themselves, and turning fast about a moving axis takes
    acceleration.

    Raises:
        ParameterError: names the axis.
    """
    for name in ("position_lower", "position_upper"):
        limits = values.per_joint(name, axes)
        for pose in poses:
            for axis in pose.rotation_axes:
                if math.isfinite(limits[axis]):
                    raise ParameterError(
                        f"parameter {name} is {limits[axis]:g} for {axes[axis]}, a number of a "
                        "rotation vector, which has no limits; set it to .inf with its sign"
                    )
    velocity = values.per_joint("max_velocity", axes)
    acceleration = values.per_joint("max_acceleration", axes)
    for pose in poses:
        fastest = min(velocity[axis] for axis in pose.rotation_axes)
        hardest = min(acceleration[axis] for axis in pose.rotation_axes)
        if hardest <= 2.0 * fastest**2 * TURNING:
            raise ParameterError(
                f"parameter max_acceleration is {hardest:g} rad/s^2 for the rotation of "
                f"{axes[pose.axis]}, and turning at max_velocity, {fastest:g} rad/s, may take "
                f"{fastest**2 * TURNING:.3g} rad/s^2 by itself; set it to at least "
                f"{2.0 * fastest**2 * TURNING:.3g}"
            )

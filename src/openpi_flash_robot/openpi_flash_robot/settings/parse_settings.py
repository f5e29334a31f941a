"""From the parameters that a user set to `NodeSettings`, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from openpi_flash_robot.nanoseconds import from_seconds
from openpi_flash_robot.settings.node_settings import (
    DEFAULT_PORTS,
    SECRET_IS_NOT_SET,
    SECRET_IS_SET,
    Camera,
    Controller,
    LinkSettings,
    NodeSettings,
    ObservationSettings,
    PlayerSettings,
    RequestPath,
    StopSettings,
)
from openpi_flash_robot.settings.parameter_kinds import ParameterError, ParameterValue
from openpi_flash_robot.settings.parameter_table import parse_values


def settings_from_parameters(given: Mapping[str, Any]) -> NodeSettings:
    """Parse the parameters that the user set.

    Raises:
        ParameterError: a parameter is unknown, missing, of the wrong type, out of range, or does
            not fit another one.
    """
    values = _Values(parse_values(given))
    joints = values.names("joints")
    if not joints:
        raise ParameterError(
            "parameter joints is empty; name the robot's joints in policy order, in a parameter "
            "file below `/**:` (or the node's name) and `ros__parameters:`"
        )
    action_columns = values.names("action_columns") or joints
    if len(action_columns) != len(joints):
        raise ParameterError(
            f"parameter action_columns has {len(action_columns)} names for {len(joints)} joints"
        )
    return NodeSettings(
        link=_link(values),
        observation=_observation(values, joints),
        player=_player(values, joints),
        stops=StopSettings(
            emergency_stops=values.names("emergency_stop_topics"),
            enable=values.get("enable_topic", str),
            hold=values.get("hold_topic", str),
            timeout_ns=values.seconds("stop_timeout"),
        ),
        controllers=_controllers(values, joints),
        gripper_joints=_some_joints(values, "gripper_joints", joints),
        unmoved_joints=_some_joints(values, "unmoved_joints", joints),
        action_columns=action_columns,
        action_kind=values.get("action_kind", str),
        action_rate_hz=values.get("action_rate_hz", float),
        execution_horizon=values.get("execution_horizon", int),
        control_period_ns=from_seconds(1.0 / values.get("control_rate_hz", float)),
        command_window_ns=values.seconds("command_window"),
        tracking_delay_ns=values.seconds("tracking_delay"),
        stamp_trajectories=values.get("trajectory_stamp", str) == "absolute",
        robot_description_topic=values.get("robot_description_topic", str),
        prompt=values.get("prompt", str),
        dry_run=values.get("dry_run", bool),
        publish_subtask_text=values.get("publish_subtask_text", bool),
    )


T = TypeVar("T")


class _Values:
    """Typed access to values that `parse_values` has checked."""

    def __init__(self, values: Mapping[str, ParameterValue]) -> None:
        self._values = values

    def get(self, name: str, kind: type[T]) -> T:
        value = self._values[name]
        assert isinstance(value, kind), name
        return value

    def seconds(self, name: str) -> int:
        return from_seconds(self.get(name, float))

    def required(self, name: str, hint: str) -> str:
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
        path = tuple(self.required(name, hint).split("."))
        if "" in path:
            raise ParameterError(f"parameter {name} has an empty key between its dots")
        return path

    def per_joint(self, name: str, joints: tuple[str, ...]) -> tuple[float, ...]:
        """One value per joint, from one for all of them or one for each."""
        values = tuple(float(item) for item in self.get(name, tuple))
        if len(values) == 1:
            return values * len(joints)
        if len(values) != len(joints):
            raise ParameterError(
                f"parameter {name} has {len(values)} values for {len(joints)} joints"
            )
        return values


def _link(values: _Values) -> LinkSettings:
    transport = values.get("transport", str)
    ways_to_trust = ("server_fingerprint", "ca_file", "known_servers")
    given = [name for name in ways_to_trust if values.get(name, str)]
    if len(given) > 1:
        raise ParameterError(
            f"parameters {' and '.join(given)} are set; each alone authenticates the server, set "
            "one of them"
        )
    host = values.required("server", "give the policy server's host name or address")
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
    )


def _api_key(values: _Values) -> str:
    key = values.get("api_key", str)
    if key == SECRET_IS_SET:
        raise ParameterError(
            f"parameter api_key is {SECRET_IS_SET!r}, which is what it reads back as, in a file "
            "from `ros2 param dump` too; give the key itself in the file that api_key_file names"
        )
    return "" if key == SECRET_IS_NOT_SET else key


def _observation(values: _Values, joints: tuple[str, ...]) -> ObservationSettings:
    names = values.names("cameras")
    if not names:
        raise ParameterError("parameter cameras is empty; list the names of the robot's cameras")
    cameras = tuple(_camera(values, name) for name in names)
    topics = values.names("joint_state_topics")
    if not topics:
        raise ParameterError(
            "parameter joint_state_topics is empty; list the topics with sensor_msgs/JointState"
        )
    state_key = values.path("state_key", "give the key of the joint positions in the request")
    prompt_key = values.path("prompt_key", "give the key of the instruction in the request")
    _check_paths([*(camera.key for camera in cameras), state_key, prompt_key])
    height, width = values.get("image_height", int), values.get("image_width", int)
    if (height == 0) != (width == 0):
        raise ParameterError("parameters image_height and image_width must both be 0 or neither")
    return ObservationSettings(
        cameras=cameras,
        image_size=(height, width) if height else None,
        image_layout=values.get("image_layout", str),
        jpeg_quality=(
            values.get("jpeg_quality", int) if values.get("image_encoding", str) == "jpeg" else None
        ),
        joint_state_topics=topics,
        joints=joints,
        state_key=state_key,
        prompt_key=prompt_key,
        max_age_ns=values.seconds("max_observation_age"),
        max_skew_ns=values.seconds("max_camera_skew"),
        max_blind_ns=values.seconds("max_blind_time"),
    )


def _camera(values: _Values, name: str) -> Camera:
    topic = values.required(f"camera.{name}.topic", "give the topic of its images")
    kind = values.get(f"camera.{name}.image_transport", str)
    return Camera(
        name,
        topic,
        values.path(f"camera.{name}.key", "give the key of its image in the request"),
        # image_transport's own name for such a topic
        is_compressed=topic.endswith("/compressed") if kind == "auto" else kind == "compressed",
    )


def _check_paths(paths: list[RequestPath]) -> None:
    """No two inputs may land in the same place, nor one inside another."""
    for index, path in enumerate(paths):
        for other in paths[index + 1 :]:
            shorter = min(len(path), len(other))
            if path[:shorter] == other[:shorter]:
                raise ParameterError(
                    f"two inputs go to the same place in the request: "
                    f"{'.'.join(path)} and {'.'.join(other)}"
                )


def _player(values: _Values, joints: tuple[str, ...]) -> PlayerSettings:
    lower = values.per_joint("position_lower", joints)
    upper = values.per_joint("position_upper", joints)
    for joint, low, high in zip(joints, lower, upper, strict=True):
        if low >= high:
            raise ParameterError(
                f"position_lower of {joint} ({low:g}) must be below its position_upper ({high:g})"
            )
    return PlayerSettings(
        chunk_method=values.get("chunk_method", str),
        ensemble_decay=values.get("ensemble_decay", float),
        max_chunk_age_ns=values.seconds("max_chunk_age"),
        blend_ns=values.seconds("blend_time"),
        max_start_delta=values.per_joint("max_start_delta", joints),
        max_tracking_error=values.per_joint("max_tracking_error", joints),
        max_velocity=values.per_joint("max_velocity", joints),
        max_acceleration=values.per_joint("max_acceleration", joints),
        position_lower=lower,
        position_upper=upper,
        lead_ns=values.seconds("min_lead_time"),
        is_commanded=not values.get("dry_run", bool),
        execution_horizon=values.get("execution_horizon", int),
    )


def _some_joints(values: _Values, name: str, joints: tuple[str, ...]) -> tuple[str, ...]:
    some = values.names(name)
    for joint in some:
        if joint not in joints:
            raise ParameterError(f"{name} has {joint}, which is not one of joints")
    return some


def _controllers(values: _Values, joints: tuple[str, ...]) -> tuple[Controller, ...]:
    controllers = []
    owner: dict[str, str] = {}
    for name in values.names("controllers"):
        group = values.names(f"controller.{name}.joints") or joints
        for joint in group:
            if joint not in joints:
                raise ParameterError(
                    f"controller.{name}.joints has {joint}, which is not one of joints"
                )
            if joint in owner:
                raise ParameterError(
                    f"joint {joint} belongs to two controllers, {owner[joint]} and {name}"
                )
            owner[joint] = name
        controllers.append(
            Controller(
                name=name,
                topic=values.get(f"controller.{name}.topic", str) or f"/{name}/joint_trajectory",
                joints=group,
                columns=tuple(joints.index(joint) for joint in group),
            )
        )
    if not controllers and not values.get("dry_run", bool):
        raise ParameterError("parameter controllers is empty; without one only dry_run is possible")
    return tuple(controllers)

"""The parameters as one frozen value, checked against each other.

Times are integer nanoseconds, and per-joint values are tuples in the order of `joints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from openpi_flash_client_node.nanoseconds import from_seconds
from openpi_flash_client_node.settings.parameter_kinds import ParameterError, ParameterValue
from openpi_flash_client_node.settings.parameter_table import parse_values

DEFAULT_PORTS = {"quic": 5555, "websocket": 8000}

SECRET_IS_SET, SECRET_IS_NOT_SET = "set", "not set"
"""What a secret parameter reads back as."""

RequestPath = tuple[str, ...]
"""Keys from the outside in: ("images", "cam_high") is request["images"]["cam_high"]."""


@dataclass(frozen=True)
class Camera:
    """A camera and its place in the request.

    Attributes:
        name: as in the parameters.
        topic: where its images are.
        key: where an image goes in the request.
        is_compressed: whether they are sensor_msgs/CompressedImage.
    """

    name: str
    topic: str
    key: RequestPath
    is_compressed: bool = False


@dataclass(frozen=True)
class Controller:
    """A joint trajectory controller.

    Attributes:
        name: as in the parameters.
        topic: where it takes trajectories.
        joints: its joints, in the order of the trajectory.
        columns: index of each of them in `NodeSettings.joints`.
    """

    name: str
    topic: str
    joints: tuple[str, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class LinkSettings:
    """How to reach the server. Times are seconds, as the transport takes them.

    Attributes:
        host: name, address or URI of the server, as the user wrote it.
        port: None: the one in `host`, or else the transport's own.
        server: host and port for messages.
        api_key: empty for none.
        api_key_file: file that holds the key instead; empty for none.
    """

    host: str
    port: int | None
    server: str
    transport: str
    api_key: str = field(repr=False)
    api_key_file: str
    server_fingerprint: str
    ca_file: str
    known_servers: str
    connect_timeout: float
    reconnect_delay_max: float
    request_timeout: float

    @property
    def is_unix(self) -> bool:
        """Whether the server is behind a unix socket of this computer: `unix:/path`."""
        return self.host.startswith("unix:")

    @property
    def is_unauthenticated(self) -> bool:
        """Whether no setting authenticates the server."""
        return not (self.server_fingerprint or self.ca_file or self.known_servers)


@dataclass(frozen=True)
class ObservationSettings:
    """What goes into a request and how old it may be."""

    cameras: tuple[Camera, ...]
    image_size: tuple[int, int] | None
    """Height and width without a size in the server's metadata; None leaves images as they are."""
    image_layout: str
    jpeg_quality: int | None
    """None sends arrays."""
    joint_state_topics: tuple[str, ...]
    joints: tuple[str, ...]
    state_key: RequestPath
    prompt_key: RequestPath
    max_age_ns: int
    max_skew_ns: int
    max_blind_ns: int
    """How long the robot may move by inputs that are missing."""


@dataclass(frozen=True)
class PlayerSettings:
    """What the chunk player may do.

    Attributes:
        max_chunk_age_ns: oldest observation to play for; 0 is half of the chunk.
        blend_ns: how long the running plan fades into a new chunk.
        max_start_delta: per joint, rad or m.
        max_tracking_error: per joint, rad or m; 0 for a joint that is not where it is commanded
            to be, such as a gripper that holds something.
        max_velocity: per joint, rad/s or m/s.
        max_acceleration: per joint, rad/s^2 or m/s^2.
        position_lower: per joint, rad or m; -inf for none.
        position_upper: per joint, rad or m; inf for none.
        lead_ns: from a chunk's arrival, or the cause to hold, to where the motion departs from
            what was commanded before.
        is_commanded: whether the robot moves by the plans; not in a dry run.
    """

    max_chunk_age_ns: int
    blend_ns: int
    max_start_delta: tuple[float, ...]
    max_tracking_error: tuple[float, ...]
    max_velocity: tuple[float, ...]
    max_acceleration: tuple[float, ...]
    position_lower: tuple[float, ...]
    position_upper: tuple[float, ...]
    lead_ns: int
    is_commanded: bool


@dataclass(frozen=True)
class StopSettings:
    """The topics, std_msgs/Bool, by which people stop the robot.

    Attributes:
        emergency_stops: true is pressed.
        enable: true while the robot may move; empty for none.
        hold: true while it should hold; empty for none.
        timeout_ns: an emergency stop or enabling switch that is silent for longer stops the robot;
            0: they speak on change only, and are latched.
    """

    emergency_stops: tuple[str, ...] = ()
    enable: str = ""
    hold: str = ""
    timeout_ns: int = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(t for t in (*self.emergency_stops, self.enable, self.hold) if t)


@dataclass(frozen=True)
class NodeSettings:
    """All parameters of the node, checked."""

    link: LinkSettings
    observation: ObservationSettings
    player: PlayerSettings
    stops: StopSettings
    controllers: tuple[Controller, ...]
    unmoved_joints: tuple[str, ...]
    """The joints that no controller moves on purpose."""
    action_columns: tuple[str, ...]
    """The server's names of the action columns, in the order of the joints."""
    action_kind: str
    """What the actions of a server mean that does not say; empty: not known."""
    action_rate_hz: float
    """0 asks the server."""
    execution_horizon: int
    control_period_ns: int
    command_window_ns: int
    """How much of a motion a controller is sent at a time."""
    tracking_delay_ns: int
    """Greatest delay of an arm that follows its commands."""
    stamp_trajectories: bool
    """Whether the points of a trajectory belong to moments of the ROS clock."""
    prompt: str
    dry_run: bool
    publish_subtask_text: bool

    @property
    def joints(self) -> tuple[str, ...]:
        """The joints in the order of the policy's state and actions."""
        return self.observation.joints

    @property
    def moved_joints(self) -> tuple[bool, ...]:
        """Whether a controller moves each joint, in their order."""
        moved = {joint for controller in self.controllers for joint in controller.joints}
        return tuple(joint in moved for joint in self.joints)

    @property
    def joints_without_controller(self) -> tuple[str, ...]:
        """The joints that no controller moves; their columns of a chunk go nowhere."""
        return tuple(
            joint
            for joint, is_moved in zip(self.joints, self.moved_joints, strict=True)
            if not is_moved
        )


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
        unmoved_joints=_unmoved(values, joints),
        action_columns=action_columns,
        action_kind=values.get("action_kind", str),
        action_rate_hz=values.get("action_rate_hz", float),
        execution_horizon=values.get("execution_horizon", int),
        control_period_ns=from_seconds(1.0 / values.get("control_rate_hz", float)),
        command_window_ns=values.seconds("command_window"),
        tracking_delay_ns=values.seconds("tracking_delay"),
        stamp_trajectories=values.get("trajectory_stamp", str) == "absolute",
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

    def per_joint(
        self, name: str, joints: tuple[str, ...], empty: float | None
    ) -> tuple[float, ...]:
        """One value per joint, from one for all of them or one for each."""
        values = tuple(float(item) for item in self.get(name, tuple))
        if not values and empty is not None:
            return (empty,) * len(joints)
        if len(values) == 1 and empty is None:
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
    lower = values.per_joint("position_lower", joints, float("-inf"))
    upper = values.per_joint("position_upper", joints, float("inf"))
    for joint, low, high in zip(joints, lower, upper, strict=True):
        if low >= high:
            raise ParameterError(
                f"position_lower of {joint} ({low:g}) must be below its position_upper ({high:g})"
            )
    return PlayerSettings(
        max_chunk_age_ns=values.seconds("max_chunk_age"),
        blend_ns=values.seconds("blend_time"),
        max_start_delta=values.per_joint("max_start_delta", joints, None),
        max_tracking_error=values.per_joint("max_tracking_error", joints, None),
        max_velocity=values.per_joint("max_velocity", joints, None),
        max_acceleration=values.per_joint("max_acceleration", joints, None),
        position_lower=lower,
        position_upper=upper,
        lead_ns=values.seconds("min_lead_time"),
        is_commanded=not values.get("dry_run", bool),
    )


def _unmoved(values: _Values, joints: tuple[str, ...]) -> tuple[str, ...]:
    unmoved = values.names("unmoved_joints")
    for joint in unmoved:
        if joint not in joints:
            raise ParameterError(f"unmoved_joints has {joint}, which is not one of joints")
    return unmoved


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

"""The parameters as one frozen value; `parse_settings.py` makes it.

Times are integer nanoseconds, and per-joint values are tuples in the order of `joints`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
        session: the name under which the server keeps this robot's requests apart from others'; the
            same through every reconnection. Empty: each connection has its own.
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
    session: str = ""

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
        chunk_method: how a chunk goes on from those before, a name in `play/splice/methods.py`.
        ensemble_decay: of the weights of temporal_ensemble, per chunk.
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
        execution_horizon: steps of a chunk that are played where its method plays it out; 0: all.
    """

    chunk_method: str
    ensemble_decay: float
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
    execution_horizon: int = 0


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
    gripper_joints: tuple[str, ...]
    """The joints that are grippers, for a server that does not say."""
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
    robot_description_topic: str
    """Where the robot's URDF is; empty for nowhere."""
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

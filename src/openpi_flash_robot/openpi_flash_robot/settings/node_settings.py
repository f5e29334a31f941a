"""The parameters as one frozen value; `parse_settings.py` makes it.

Times are integer nanoseconds, and per-joint values are tuples in the order of `joints`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from openpi_flash_robot.nanoseconds import from_seconds
from openpi_flash_robot.settings.controllers import Controller, Gripper
from openpi_flash_robot.settings.pose_columns import PoseColumns, pose_columns
from openpi_flash_robot.settings.state_inputs import RequestPath, StateInput
from openpi_flash_robot.settings.stop_states import StopState

DEFAULT_PORTS = {"auto": 5555, "quic": 5555, "websocket": 8000}

SECRET_IS_SET, SECRET_IS_NOT_SET = "set", "not set"
"""What a secret parameter reads back as."""


@dataclass(frozen=True)
class Camera:
    """A camera and its place in the request.

    Attributes:
        name: as in the parameters.
        topic: where its images are.
        key: where an image goes in the request.
        is_compressed: whether they are sensor_msgs/CompressedImage.
        is_stamped_on_arrival: whether an image belongs to the moment of its arrival, in place of
            its header's stamp.
    """

    name: str
    topic: str
    key: RequestPath
    is_compressed: bool = False
    is_stamped_on_arrival: bool = False


@dataclass(frozen=True)
class LinkSettings:
    """How to reach the server. Times are seconds, as the transport takes them.

    Attributes:
        host: name, address or URI of the server, as the user wrote it.
        port: None: the one in `host`, or else the transport's own.
        server: host and port for messages.
        api_key: empty for none.
        api_key_file: file that holds the key instead; empty for none.
        transport: `auto`, `quic` or `websocket`.
        websocket_port: for `auto`; None: the one that belongs to the QUIC port.
        insecure_fallback: for `auto`: WebSocket may lose what QUIC protects.
        relay: through which the server is reached, whose name there is `host`; empty for none.
        relay_token_file: file with the token of that name.
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
    websocket_port: int | None = None
    insecure_fallback: bool = False
    relay: str = ""
    relay_token_file: str = ""

    @property
    def is_unix(self) -> bool:
        """Whether the server is behind a unix socket of this computer: `unix:/path`."""
        return self.host.startswith("unix:")

    @property
    def is_unauthenticated(self) -> bool:
        """Whether no setting authenticates the server."""
        return not (self.server_fingerprint or self.ca_file or self.known_servers)


@dataclass(frozen=True)
class PoseInput:
    """The measured pose of an end effector that is commanded.

    Attributes:
        controller: which moves it.
        axes: what its x, y, z and rotation vector are called, [6].
        frame: in which it counts.
        topic: geometry_msgs/PoseStamped; empty where it comes by tf.
        child_frame: whose pose it is, by tf; empty where it has a topic.
    """

    controller: str
    axes: tuple[str, ...]
    frame: str
    topic: str = ""
    child_frame: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, for messages."""
        return self.topic or f"/tf ({self.child_frame} in {self.frame})"


@dataclass(frozen=True)
class ObservationSettings:
    """What goes into a request and how old it may be."""

    cameras: tuple[Camera, ...]
    image_size: tuple[int, int] | None
    """Height and width without a size in the server's metadata; None leaves images as they are."""
    image_layout: str
    jpeg_quality: int | None
    """None sends arrays; with an `image_budget` the best that is chosen."""
    joint_state_topics: tuple[str, ...]
    joints_are_stamped_on_arrival: bool
    """Whether positions belong to the moment of their arrival, in place of their header's stamp."""
    joints: tuple[str, ...]
    """Those that are measured; the axes of `poses` come last."""
    states: tuple[StateInput, ...]
    prompt_key: RequestPath
    max_age_ns: int
    max_skew_ns: int
    max_blind_ns: int
    """How long the robot may move by inputs that are missing."""
    max_frozen_ns: int
    """How long a camera may send the same image; 0: for ever."""
    joint_state_prefixes: tuple[str, ...] = ()
    """Before the names of each topic's joints; empty: nothing."""
    image_budget: float | None = None
    """Seconds that images may take on the link before they are JPEG; None: they are what
    `jpeg_quality` says, whatever the link carries."""
    least_jpeg_quality: int = 1
    """Worst that is chosen."""
    poses: tuple[PoseInput, ...] = ()
    """Of the end effectors that are commanded to be somewhere."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Those of `joints` that joint states name."""
        return self.joints[: len(self.joints) - sum(len(pose.axes) for pose in self.poses)]


TURNING = 1.0 / math.pi
"""1/rad. Where a rotation vector changes by v per second, the rotation's velocity is v at most, and
its acceleration that of the vector and v^2 times this at most. Both follow from the left Jacobian
of the exponential map, which shrinks every vector; the second is greatest at half a turn."""


@dataclass(frozen=True)
class Direction:
    """Axes that are the components of one vector: the least of their limits bounds its length.

    Attributes:
        axes: their indexes.
        is_rotation: whether it is a rotation vector, and its limits are those of the rotation.
    """

    axes: tuple[int, ...]
    is_rotation: bool = False


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
        measured: per axis, whether it is a joint that is measured; empty: all are.
        execution_horizon: steps of a chunk that are played where its method plays it out; 0: all.
        max_jerk: per joint, rad/s^3 or m/s^3; inf for none; empty: none at all.
        directions: groups of axes whose limits bound them together.
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
    measured: tuple[bool, ...] = ()
    execution_horizon: int = 0
    max_jerk: tuple[float, ...] = ()
    directions: tuple[Direction, ...] = ()

    @property
    def smoothing_ns(self) -> int:
        """Over how long motions are averaged; even, 0 where no jerk is limited.

        The mean over T of a motion with accelerations up to A has a jerk of 2 A / T at most.
        """
        longest = max(
            (2.0 * a / j for a, j in zip(self.max_acceleration, self.max_jerk, strict=False)),
            default=0.0,
        )
        return 2 * math.ceil(from_seconds(longest) / 2)


@dataclass(frozen=True)
class StopSettings:
    """The topics by which people stop the robot, std_msgs/Bool, and the states that stop it.

    Attributes:
        emergency_stops: true is pressed.
        enable: true while the robot may move; empty for none.
        hold: true while it should hold; empty for none.
        timeout_ns: an emergency stop or enabling switch that is silent for longer stops the robot;
            0: they speak on change only, and are latched.
        states: what its driver says of the robot.
    """

    emergency_stops: tuple[str, ...] = ()
    enable: str = ""
    hold: str = ""
    timeout_ns: int = 0
    states: tuple[StopState, ...] = ()

    @property
    def topics(self) -> tuple[str, ...]:
        """Those of people."""
        return tuple(t for t in (*self.emergency_stops, self.enable, self.hold) if t)


@dataclass(frozen=True)
class TakeoverSettings:
    """How a person takes the robot by teleoperation.

    Attributes:
        switch_topic: std_msgs/Bool, true while a person commands; empty for never.
        topic: sensor_msgs/JointState, where the person wants the axes.
        joints: the names of the axes in these messages, in the order of the axes.
        timeout_ns: of the switch; 0: it speaks on change only, and is latched.
        target_timeout_ns: of the targets.
    """

    switch_topic: str = ""
    topic: str = ""
    joints: tuple[str, ...] = ()
    timeout_ns: int = 0
    target_timeout_ns: int = 0


@dataclass(frozen=True)
class BlackBoxSettings:
    """What is recorded of the last minute, and where it is written after a fault.

    Attributes:
        length_ns: how far back a file reaches; 0 records nothing.
        folder: where files go; empty for the default.
        files: how many are kept.
        has_images: whether small frames of the cameras are recorded.
    """

    length_ns: int
    folder: str
    files: int
    has_images: bool


@dataclass(frozen=True)
class RecordSettings:
    """How episodes are recorded.

    Attributes:
        folder: where files go; empty for the default.
        jpeg_quality: of the images of cameras that send pixels; None records the pixels.
    """

    folder: str = ""
    jpeg_quality: int | None = 90


@dataclass(frozen=True)
class NodeSettings:
    """All parameters of the node, checked."""

    link: LinkSettings
    observation: ObservationSettings
    player: PlayerSettings
    stops: StopSettings
    takeover: TakeoverSettings
    controllers: tuple[Controller, ...]
    axes: tuple[str, ...]
    """What is commanded, in the order of the player's columns; the measured ones have the names of
    their joints."""
    grippers: tuple[Gripper, ...]
    unmoved_joints: tuple[str, ...]
    """The axes that no controller moves on purpose."""
    action_columns: tuple[str, ...]
    """The server's names of the action columns, in the order of the axes; `poses` have as many for
    their rotation as that is written with."""
    action_kinds: tuple[str, ...]
    """What the numbers of each axis mean: position, gripper, velocity, eef_pose, eef_delta,
    base_twist; empty where the node takes the server's word, if that is a position or a gripper."""
    action_scale: tuple[float, ...]
    """What one unit of the policy is in units of each axis."""
    action_rate_hz: float
    """0 asks the server."""
    execution_horizon: int
    first_actions: int
    """Steps of a chunk that are asked for ahead of the rest; 0 for none."""
    control_period_ns: int
    command_window_ns: int
    """How much of a motion a controller is sent at a time."""
    activity_topic: str
    """Where the controller manager says which controllers are active; empty for nowhere."""
    hardware_components: tuple[str, ...]
    """Those that must be active; empty: all."""
    tracking_delay_ns: int
    """Greatest delay of an arm that follows its commands."""
    stamp_trajectories: bool
    """Whether the points of a trajectory belong to moments of the ROS clock."""
    robot_description_topic: str
    """Where the robot's URDF is; empty for nowhere."""
    joint_limits_file: str
    """A joint_limits.yaml of MoveIt or ros2_control; empty for none."""
    fault_after_ns: int
    """How long a robot that has moved may stand without a chunk before a person must look; 0: for
    ever."""
    prompt: str
    dry_run: bool
    publish_subtask_text: bool
    wait_for_goal: bool
    """Whether an active robot moves for goals only, from its activation on."""
    prompt_topic: str
    """What changes the instruction beside the service; empty for nothing."""
    black_box: BlackBoxSettings
    record: RecordSettings = RecordSettings()
    limit_conflict: str = ""
    """Why the limits of different sources leave a joint no position; empty if they do not."""

    @property
    def poses(self) -> tuple[PoseColumns, ...]:
        """The end effectors that are commanded to be somewhere, in the order of the axes."""
        return pose_columns(self.controllers)

    @property
    def joints(self) -> tuple[str, ...]:
        """The joints that are measured."""
        return self.observation.joints

    @property
    def measured_axes(self) -> tuple[bool, ...]:
        """Whether each axis is a joint that is measured."""
        return tuple(axis in self.joints for axis in self.axes)

    @property
    def moved_axes(self) -> tuple[bool, ...]:
        """Whether a controller moves each axis, in their order."""
        moved = {axis for controller in self.controllers for axis in controller.joints}
        return tuple(axis in moved for axis in self.axes)

    @property
    def axes_without_controller(self) -> tuple[str, ...]:
        """The axes that no controller moves; their columns of a chunk go nowhere."""
        return tuple(
            axis for axis, is_moved in zip(self.axes, self.moved_axes, strict=True) if not is_moved
        )

    def controller_of(self, axis: str) -> Controller | None:
        """The controller that moves an axis; None if none does."""
        return next((c for c in self.controllers if axis in c.joints), None)

    def gripper_of(self, axis: str) -> Gripper | None:
        """The gripper that an axis is; None if it is none, as far as the node knows."""
        return next((g for g in self.grippers if g.joint == axis), None)

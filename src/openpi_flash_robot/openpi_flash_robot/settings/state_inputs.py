"""The numbers of a request: joint positions and whatever else the policy reads of the robot."""

from __future__ import annotations

import enum
from dataclasses import dataclass

RequestPath = tuple[str, ...]
"""Keys from the outside in: ("images", "cam_high") is request["images"]["cam_high"]."""


class StateKind(enum.Enum):
    """Where numbers come from, by the names of `state.<name>.kind`."""

    JOINT_POSITIONS = "joint_positions"
    JOINT_VELOCITIES = "joint_velocities"
    JOINT_EFFORTS = "joint_efforts"
    POSE = "pose"
    """geometry_msgs/PoseStamped: x, y, z and the rotation."""
    TF = "tf"
    """The same of a frame, by the transforms on /tf and /tf_static."""
    TWIST = "twist"
    """geometry_msgs/TwistStamped: three velocities and three rates of rotation."""
    WRENCH = "wrench"
    """geometry_msgs/WrenchStamped: force and torque."""
    BASE_TWIST = "base_twist"
    """x, y and the rotation of a geometry_msgs/TwistStamped."""
    ODOMETRY = "odometry"
    """x, y and the rotation of the twist of a nav_msgs/Odometry."""
    VECTOR = "vector"
    """std_msgs/Float64MultiArray."""
    FLOAT64 = "float64"
    """std_msgs/Float64, such as the opening of a gripper."""
    FLOAT32 = "float32"
    """std_msgs/Float32."""

    @property
    def is_pose(self) -> bool:
        """Whether it is x, y, z and a rotation."""
        return self in (StateKind.POSE, StateKind.TF)

    @property
    def is_stamped(self) -> bool:
        """Whether its messages say when they were measured."""
        return self not in (StateKind.VECTOR, StateKind.FLOAT64, StateKind.FLOAT32)

    @property
    def is_of_joints(self) -> bool:
        """Whether it comes from the joint states."""
        return self in JOINT_KINDS


JOINT_KINDS = (StateKind.JOINT_POSITIONS, StateKind.JOINT_VELOCITIES, StateKind.JOINT_EFFORTS)


class Rotation(enum.Enum):
    """How a rotation is written, by the names of `state.<name>.rotation`."""

    RPY = "rpy"
    """Roll, pitch, yaw about fixed axes, rad."""
    ROTVEC = "rotvec"
    """Axis times angle, rad."""
    QUAT_XYZW = "quat_xyzw"
    """A unit quaternion, its real part last."""
    QUAT_WXYZ = "quat_wxyz"
    """A unit quaternion, its real part first."""
    ROT6D = "rot6d"
    """The first two columns of the rotation matrix, one after the other."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return {"quat_xyzw": 4, "quat_wxyz": 4, "rot6d": 6}.get(self.value, 3)


@dataclass(frozen=True)
class StateInput:
    """Some numbers of a request.

    Attributes:
        name: as in the parameters.
        key: where they go; several inputs at one place stand there one after the other.
        kind: where they come from.
        joints: their joints, in order; only for those of joints.
        topic: where they come from; empty for those of joints.
        rotation: of a pose.
        size: how many numbers.
        scale: of each number, [size]; a value is sent times scale, plus offset.
        offset: of each number, [size].
        frame: of a pose: in which frame it counts; empty: whatever its messages say.
        child_frame: of a pose by tf: whose it is.
    """

    name: str
    key: RequestPath
    kind: StateKind
    joints: tuple[str, ...]
    topic: str
    rotation: Rotation
    size: int
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    frame: str = ""
    child_frame: str = ""

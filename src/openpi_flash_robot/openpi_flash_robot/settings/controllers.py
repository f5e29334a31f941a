"""What is commanded: the axes of the robot, and the controllers that take them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from openpi_flash_robot.settings.state_inputs import Rotation


class ControllerKind(enum.Enum):
    """What a controller takes, by the names of `controller.<name>.kind`."""

    JOINT_TRAJECTORY = "joint_trajectory"
    """trajectory_msgs/JointTrajectory: joint_trajectory_controller."""
    POSITION = "position"
    """std_msgs/Float64MultiArray of positions: forward_command_controller."""
    VELOCITY = "velocity"
    """std_msgs/Float64MultiArray of velocities: forward_command_controller."""
    JOINT_STATE = "joint_state"
    """sensor_msgs/JointState of positions: Galaxea's joint tracker, Isaac Sim."""
    TWIST = "twist"
    """geometry_msgs/TwistStamped of an end effector, as MoveIt Servo takes it."""
    POSE = "pose"
    """geometry_msgs/PoseStamped of an end effector, as MoveIt Servo and CRISP take it."""
    BASE = "base"
    """geometry_msgs/TwistStamped, or Twist, of a mobile base."""
    GRIPPER = "gripper"
    """control_msgs/GripperCommand or ParallelGripperCommand, an action."""

    @property
    def takes_rates(self) -> bool:
        """Whether it is told how fast to go, not where to be."""
        return self in (ControllerKind.VELOCITY, ControllerKind.TWIST, ControllerKind.BASE)

    @property
    def is_streamed(self) -> bool:
        """Whether it wants every moment of the motion by itself, and has no plan of its own."""
        return self not in (ControllerKind.JOINT_TRAJECTORY, ControllerKind.GRIPPER)


AXES_OF = {
    ControllerKind.TWIST: (6,),
    ControllerKind.POSE: (6,),
    ControllerKind.BASE: (2, 3),
    ControllerKind.GRIPPER: (1,),
}
"""How many axes a controller of a kind has, where that is fixed: a twist is x, y, z and the
rotation about them; a pose x, y, z and its rotation vector; a base x and the rotation, or x, y and
the rotation."""


@dataclass(frozen=True)
class Controller:
    """A controller and the axes that it moves.

    Attributes:
        name: as in the parameters.
        topic: where it takes commands; for a gripper the name of the action.
        joints: its axes, in the order of the command.
        columns: index of each of them in `NodeSettings.axes`.
        kind: what it takes.
        frame: of a twist: what the policy's directions count in; of a pose: what it counts in.
        is_stamped: of a base: whether it takes TwistStamped.
        action: of a gripper: gripper_command or parallel_gripper_command.
        max_effort: of a gripper: N or N m; 0 leaves it to the gripper.
        joint_names: what it calls its joints itself; empty: as they are called here.
        rotation: of a pose: how the policy writes its rotation.
        pose_topic: of a pose: where the measured one is; empty where it comes by tf.
        child_frame: of a pose: whose it is, by tf; empty where it has a topic.
    """

    name: str
    topic: str
    joints: tuple[str, ...]
    columns: tuple[int, ...]
    kind: ControllerKind = ControllerKind.JOINT_TRAJECTORY
    frame: str = ""
    is_stamped: bool = True
    action: str = ""
    max_effort: float = 0.0
    joint_names: tuple[str, ...] = ()
    rotation: Rotation = Rotation.ROTVEC
    pose_topic: str = ""
    child_frame: str = ""

    @property
    def sent_names(self) -> tuple[str, ...]:
        """The names of its joints in what it is sent."""
        return self.joint_names or self.joints


@dataclass(frozen=True)
class Gripper:
    """How the policy's numbers for a gripper become commands.

    Attributes:
        joint: its axis.
        closed: the axis's position of the closed hand, rad, m or 1; NaN: as the policy says it.
        open: of the open hand.
        policy_closed: the policy's number for the closed hand, where the server does not say it.
        policy_open: for the open hand.
        threshold: share of the way from closed to open, above 0 and below 1, from which on it is
            opened wholly, and else closed; 0 for a hand that goes in between.
    """

    joint: str
    closed: float
    open: float
    policy_closed: float
    policy_open: float
    threshold: float

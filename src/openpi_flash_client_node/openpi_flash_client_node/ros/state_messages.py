"""Poses, twists, wrenches and vectors as the numbers of an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from std_msgs.msg import Float32, Float64, Float64MultiArray

from openpi_flash_client_node.ros.messages import stamp_of
from openpi_flash_robot.senses.rotation import rotation_numbers
from openpi_flash_robot.settings.state_inputs import StateInput, StateKind


def message_type(state: StateInput) -> type:
    """The type of the input's topic.

    Raises:
        ImportError: nav_msgs is not installed; the message says what to do.
    """
    if state.kind is StateKind.ODOMETRY:
        return _odometry_type(state)
    return _MESSAGES[state.kind]


def _odometry_type(state: StateInput) -> type:
    try:
        from nav_msgs.msg import Odometry
    except ImportError as error:
        raise ImportError(
            f"state {state.name} of kind odometry needs nav_msgs ({error}): "
            "sudo apt install ros-$ROS_DISTRO-nav-msgs"
        ) from error
    kind: type = Odometry
    return kind


def numbers_of(state: StateInput, message: Any) -> Sequence[float]:
    """The numbers of a message of the input's kind, in its order."""
    return _READERS[state.kind](message, state)


def frame_problem(state: StateInput, message: Any) -> str:
    """Why the frame of a message is not the one that is expected; empty if it is."""
    if not state.frame:
        return ""
    frame = message.header.frame_id
    if frame.lstrip("/") == state.frame.lstrip("/"):
        return ""
    return f"is in frame {frame!r}, expected {state.frame!r} (state.{state.name}.frame)"


def stamp_of_state(state: StateInput, message: Any, now: int) -> int:
    """When they were measured; what has no stamp counts from its arrival."""
    return stamp_of(message.header.stamp) if state.kind.is_stamped else now


def _pose(message: PoseStamped, state: StateInput) -> Sequence[float]:
    position, q = message.pose.position, message.pose.orientation
    return pose_numbers(state, _xyz(position), (q.x, q.y, q.z, q.w))


def pose_numbers(
    state: StateInput, position: Sequence[float], quaternion: Sequence[float]
) -> Sequence[float]:
    """The numbers of a pose, from its position and its quaternion x, y, z, w."""
    return (*position, *rotation_numbers(quaternion, state.rotation).tolist())


def _twist(message: TwistStamped, _: StateInput) -> Sequence[float]:
    return (*_xyz(message.twist.linear), *_xyz(message.twist.angular))


def _base_twist(message: TwistStamped, _: StateInput) -> Sequence[float]:
    return _planar(message.twist)


def _odometry(message: Any, _: StateInput) -> Sequence[float]:
    return _planar(message.twist.twist)


def _planar(twist: Any) -> Sequence[float]:
    return (twist.linear.x, twist.linear.y, twist.angular.z)


def _wrench(message: WrenchStamped, _: StateInput) -> Sequence[float]:
    return (*_xyz(message.wrench.force), *_xyz(message.wrench.torque))


def _vector(message: Float64MultiArray, _: StateInput) -> Sequence[float]:
    return tuple(message.data)


def _number(message: Float64 | Float32, _: StateInput) -> Sequence[float]:
    return (message.data,)


def _xyz(vector: Any) -> Sequence[float]:
    return (vector.x, vector.y, vector.z)


_MESSAGES: dict[StateKind, type] = {
    StateKind.POSE: PoseStamped,
    StateKind.TWIST: TwistStamped,
    StateKind.WRENCH: WrenchStamped,
    StateKind.BASE_TWIST: TwistStamped,
    StateKind.VECTOR: Float64MultiArray,
    StateKind.FLOAT64: Float64,
    StateKind.FLOAT32: Float32,
}

_READERS: dict[StateKind, Callable[[Any, StateInput], Sequence[float]]] = {
    StateKind.POSE: _pose,
    StateKind.TWIST: _twist,
    StateKind.WRENCH: _wrench,
    StateKind.BASE_TWIST: _base_twist,
    StateKind.ODOMETRY: _odometry,
    StateKind.VECTOR: _vector,
    StateKind.FLOAT64: _number,
    StateKind.FLOAT32: _number,
}

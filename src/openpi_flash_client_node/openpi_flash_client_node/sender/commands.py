"""What a controller is told at one moment, as a message of its kind."""

from __future__ import annotations

import array
from typing import Any

from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from openpi_flash_robot.nanoseconds import split
from openpi_flash_robot.play.motion import MotionState
from openpi_flash_robot.senses.rotation import quaternion_of
from openpi_flash_robot.settings.controllers import Controller, ControllerKind


def message_type(controller: Controller) -> type:
    """The type of its topic."""
    if controller.kind in (ControllerKind.POSITION, ControllerKind.VELOCITY):
        return Float64MultiArray
    if controller.kind is ControllerKind.JOINT_STATE:
        return JointState
    if controller.kind is ControllerKind.POSE:
        return PoseStamped
    is_twist = controller.kind is ControllerKind.BASE and not controller.is_stamped
    return Twist if is_twist else TwistStamped


def command_message(controller: Controller, state: MotionState, now: int) -> Any:
    """What it is told of this moment."""
    kind = controller.kind
    if kind is ControllerKind.POSITION:
        return Float64MultiArray(data=array.array("d", state.positions.tobytes()))
    if kind is ControllerKind.VELOCITY:
        return Float64MultiArray(data=array.array("d", state.velocities.tobytes()))
    if kind is ControllerKind.JOINT_STATE:
        return _joint_state(controller, state, now)
    if kind is ControllerKind.POSE:
        return _pose(controller, state, now)
    twist = _twist(state.velocities.tolist())
    if kind is ControllerKind.BASE and not controller.is_stamped:
        return twist
    message = TwistStamped(twist=twist)
    message.header.stamp.sec, message.header.stamp.nanosec = split(now)
    message.header.frame_id = controller.frame
    return message


def _joint_state(controller: Controller, state: MotionState, now: int) -> JointState:
    """Positions alone: Galaxea takes a velocity for the greatest one that is allowed."""
    message = JointState(name=list(controller.sent_names))
    message.header.stamp.sec, message.header.stamp.nanosec = split(now)
    message.position = array.array("d", state.positions.tobytes())
    return message


def _pose(controller: Controller, state: MotionState, now: int) -> PoseStamped:
    message = PoseStamped()
    message.header.stamp.sec, message.header.stamp.nanosec = split(now)
    message.header.frame_id = controller.frame
    numbers = state.positions.tolist()
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = numbers[:3]
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion_of(numbers[3:])
    return message


def _twist(velocities: list[float]) -> Twist:
    """Of six axes x, y, z and the rotations; of a base's three or two: x, y and z's rotation."""
    if len(velocities) < 6:
        x, rotation = velocities[0], velocities[-1]
        y = velocities[1] if len(velocities) == 3 else 0.0
        velocities = [x, y, 0.0, 0.0, 0.0, rotation]
    twist = Twist()
    twist.linear.x, twist.linear.y, twist.linear.z = velocities[:3]
    twist.angular.x, twist.angular.y, twist.angular.z = velocities[3:]
    return twist

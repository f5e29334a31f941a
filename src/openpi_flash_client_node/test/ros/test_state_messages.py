"""state_messages.py: poses, wrenches and numbers as they stand in a request."""

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, WrenchStamped
from std_msgs.msg import Float32, Float64, Float64MultiArray

from openpi_flash_client_node.ros.state_messages import (
    frame_problem,
    message_type,
    numbers_of,
    stamp_of_state,
)
from openpi_flash_robot.settings.state_inputs import Rotation, StateInput, StateKind

NOW = 7


def state(kind, size, rotation=Rotation.ROTVEC, frame=""):
    ones, zeros = (1.0,) * size, (0.0,) * size
    return StateInput("tool", ("t",), kind, (), "/tool", rotation, size, ones, zeros, frame)


def pose(frame="base"):
    message = PoseStamped()
    message.header.frame_id, message.header.stamp.sec = frame, 3
    message.pose.position.x = 0.5
    message.pose.orientation.z, message.pose.orientation.w = 1.0, 0.0
    return message


@pytest.mark.parametrize(
    ("rotation", "numbers"),
    [
        (Rotation.QUAT_XYZW, [0, 0, 1, 0]),
        (Rotation.QUAT_WXYZ, [0, 0, 0, 1]),
        (Rotation.ROTVEC, [0, 0, np.pi]),
        (Rotation.ROT6D, [-1, 0, 0, 0, -1, 0]),
    ],
)
def test_a_pose_is_its_place_and_its_rotation_in_the_policys_convention(rotation, numbers):
    given = state(StateKind.POSE, 3 + rotation.size, rotation)
    assert message_type(given) is PoseStamped
    np.testing.assert_allclose(numbers_of(given, pose()), [0.5, 0, 0, *numbers], atol=1e-12)
    assert stamp_of_state(given, pose(), NOW) == 3_000_000_000


def test_a_pose_in_another_frame_than_was_named_is_told():
    assert frame_problem(state(StateKind.POSE, 6), pose("camera")) == ""
    assert frame_problem(state(StateKind.POSE, 6, frame="base"), pose("/base")) == ""
    assert frame_problem(state(StateKind.POSE, 6, frame="base"), pose("camera")) == (
        "is in frame 'camera', expected 'base' (state.tool.frame)"
    )


def test_a_wrench_is_force_and_torque():
    message = WrenchStamped()
    message.wrench.force.y, message.wrench.torque.z = 9.0, -1.0
    assert numbers_of(state(StateKind.WRENCH, 6), message) == (0.0, 9.0, 0.0, 0.0, 0.0, -1.0)


@pytest.mark.parametrize(
    ("kind", "message", "numbers"),
    [
        (StateKind.FLOAT64, Float64(data=0.25), (0.25,)),
        (StateKind.FLOAT32, Float32(data=0.25), (0.25,)),
        (StateKind.VECTOR, Float64MultiArray(data=[1.0, 2.0]), (1.0, 2.0)),
    ],
)
def test_numbers_without_a_stamp_count_from_their_arrival(kind, message, numbers):
    given = state(kind, len(numbers))
    assert message_type(given) is type(message)
    assert numbers_of(given, message) == numbers
    assert stamp_of_state(given, message, NOW) == NOW

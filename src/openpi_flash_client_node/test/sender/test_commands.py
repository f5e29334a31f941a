"""commands.py and controllers_text.py: what a controller is told of one moment."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState

from openpi_flash_client_node.sender.commands import command_message, message_type
from openpi_flash_client_node.sender.controllers_text import from_text, to_text
from openpi_flash_robot.play.motion import MotionState
from openpi_flash_robot.settings.controllers import Controller, ControllerKind
from openpi_flash_robot.settings.state_inputs import Rotation

NOW = 12_000_000_345
STATE = MotionState(np.array([0.1, -0.2]), np.array([0.5, 0.0]))


def arm(**more):
    return Controller(
        "arm", "/arm", ("left_a", "left_b"), (0, 1), ControllerKind.JOINT_STATE, **more
    )


def test_a_joint_state_has_positions_alone_under_the_controllers_own_names():
    controller = arm(joint_names=("a", "b"))
    assert message_type(controller) is JointState
    message = command_message(controller, STATE, NOW)
    assert (list(message.name), message.position.tolist()) == (["a", "b"], [0.1, -0.2])
    assert (len(message.velocity), len(message.effort)) == (0, 0)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345)


def test_without_names_of_its_own_a_controller_gets_the_nodes():
    assert list(command_message(arm(), STATE, NOW).name) == ["left_a", "left_b"]


TOOL = Controller(
    "tool",
    "/target_pose",
    ("px", "py", "pz", "rx", "ry", "rz"),
    tuple(range(6)),
    ControllerKind.POSE,
    frame="base",
    rotation=Rotation.ROT6D,
    pose_topic="/current_pose",
)


def test_a_pose_is_told_in_its_frame_with_a_quaternion():
    assert message_type(TOOL) is PoseStamped
    state = MotionState(np.array([0.4, 0.1, 0.3, 0.0, 0.0, np.pi / 2]), np.ones(6))
    message = command_message(TOOL, state, NOW)
    assert (message.header.frame_id, message.header.stamp.sec) == ("base", 12)
    place, turn = message.pose.position, message.pose.orientation
    assert (place.x, place.y, place.z) == (0.4, 0.1, 0.3)
    half = np.sqrt(0.5)
    np.testing.assert_allclose([turn.x, turn.y, turn.z, turn.w], [0, 0, half, half], atol=1e-12)


@pytest.mark.parametrize("controller", [arm(), arm(joint_names=("a", "b")), TOOL])
def test_controllers_pass_the_command_line_unchanged(controller):
    assert from_text(to_text([controller])) == (controller,)

"""commands.py and controllers_text.py: what a controller is told of one moment."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import JointState

from openpi_flash_client_node.sender.commands import command_message, message_type
from openpi_flash_client_node.sender.controllers_text import from_text, to_text
from openpi_flash_robot.play.motion import MotionState
from openpi_flash_robot.settings.controllers import Controller, ControllerKind

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


@pytest.mark.parametrize("controller", [arm(), arm(joint_names=("a", "b"))])
def test_controllers_pass_the_command_line_unchanged(controller):
    assert from_text(to_text([controller])) == (controller,)

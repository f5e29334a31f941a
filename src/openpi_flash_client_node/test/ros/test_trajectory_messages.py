"""trajectory_messages.py: bytes that rclpy agrees with, else rclpy's own message."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from openpi_flash_client_node.ros import trajectory_messages
from openpi_flash_client_node.ros.messages import trajectory_message
from openpi_flash_client_node.ros.trajectory_messages import TrajectoryMessages
from openpi_flash_robot.play.trajectory import Trajectory

JOINTS = ("shoulder", "elbow")
MEANT = Trajectory(7, np.array([0, 20]), np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((2, 2)))


def test_a_controller_gets_the_bytes_of_the_trajectory():
    message = TrajectoryMessages(JOINTS).message(MEANT)
    assert isinstance(message, bytes)
    assert deserialize_message(message, JointTrajectory) == trajectory_message(MEANT, JOINTS)


@pytest.mark.parametrize("written", [b"", b"\0\1\0\0" + bytes(40)])
def test_bytes_that_rclpy_reads_otherwise_are_not_sent(monkeypatch, written):
    writer = trajectory_messages.JointTrajectoryWriter
    monkeypatch.setattr(writer, "write", lambda *_: written)
    message = TrajectoryMessages(JOINTS).message(MEANT)
    assert message == trajectory_message(MEANT, JOINTS)

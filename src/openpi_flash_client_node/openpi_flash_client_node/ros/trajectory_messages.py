"""The messages to a joint trajectory controller: their bytes, where these are what rclpy writes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from openpi_flash_client_node.ros.messages import trajectory_message
from openpi_flash_robot.cdr.joint_trajectory import JointTrajectoryWriter
from openpi_flash_robot.play.trajectory import Trajectory


class TrajectoryMessages:
    """Makes the messages of one controller, of which fifty a second are sent."""

    def __init__(self, joints: Sequence[str]) -> None:
        """Write an example, and have rclpy read it: it decides whether bytes are sent.

        Args:
            joints: names of the columns.
        """
        self._joints = list(joints)
        writer = JointTrajectoryWriter(joints)
        self._writer = writer if self._is_read_by_rclpy(writer) else None

    def message(self, trajectory: Trajectory) -> bytes | JointTrajectory:
        """What a publisher takes for a trajectory_msgs/JointTrajectory."""
        if self._writer is None:
            return trajectory_message(trajectory, self._joints)
        return self._writer.write(trajectory)

    def _is_read_by_rclpy(self, writer: JointTrajectoryWriter) -> bool:
        numbers = np.arange(2.0 * len(self._joints)).reshape(2, -1)
        example = Trajectory(
            start_ns=3_000_000_007,
            times_ns=np.array([11, 5_000_000_013]),
            positions=numbers,
            velocities=-numbers - 0.5,
        )
        try:
            read = deserialize_message(writer.write(example), JointTrajectory)
        except Exception:  # a message of another distribution
            return False
        return bool(read == trajectory_message(example, self._joints))

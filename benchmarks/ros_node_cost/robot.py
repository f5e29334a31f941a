"""The robot of the benchmark: three cameras, joint states, and somebody who listens to commands.

usage: python benchmarks/ros_node_cost/robot.py WIDTH HEIGHT    (runs until SIGTERM)
"""

from __future__ import annotations

import array
import contextlib
import sys
import time

import numpy as np
import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

RCLError = rclpy_implementation.RCLError
CAMERAS = ("scene", "left_wrist", "right_wrist")
JOINTS = tuple(f"joint_{number}" for number in range(7))
CAMERA_HZ = 30
JOINT_STATES_HZ = 100


class Robot:
    """Publishes pictures of which one byte changes: rendering would cost more than publishing."""

    def __init__(self, node: Node, width: int, height: int) -> None:
        self._node = node
        pixels = np.random.default_rng(0).integers(0, 256, 3 * width * height, np.uint8)
        self._image = Image(height=height, width=width, step=3 * width, encoding="rgb8")
        self._image.data = array.array("B", pixels.tobytes())
        self._joint_state = JointState(name=list(JOINTS), position=[0.1] * len(JOINTS))
        reliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self._cameras = [
            node.create_publisher(Image, f"/{camera}/image_raw", reliable) for camera in CAMERAS
        ]
        self._joints = node.create_publisher(JointState, "/joint_states", 10)
        # it has to be there, or the client node holds; nobody reads what it gets
        node.create_subscription(JointTrajectory, "/arm/joint_trajectory", print, 1)

    def run(self) -> None:
        """Publish at steady rates; the cameras take turns, as unsynchronised ones do."""
        begin, period = time.monotonic(), 1 / CAMERA_HZ
        last = len(self._cameras)
        due = [begin + index * period / last for index in range(last)] + [begin]
        while self._node.context.ok():
            index = due.index(min(due))
            time.sleep(max(0.0, due[index] - time.monotonic()))
            stamp = self._node.get_clock().now().to_msg()
            if index == last:
                self._joint_state.header.stamp = stamp
                self._joints.publish(self._joint_state)
                due[index] += 1 / JOINT_STATES_HZ
            else:
                self._image.header.stamp = stamp
                self._image.data[0] = (self._image.data[0] + 1) % 256
                self._cameras[index].publish(self._image)
                due[index] += period


def main(width: int, height: int) -> None:
    """Publish until SIGTERM."""
    rclpy.init()
    node = Node("robot")  # type: ignore[no-untyped-call]
    with contextlib.suppress(RCLError):  # the signal came while it was publishing
        Robot(node, width, height).run()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

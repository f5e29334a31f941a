"""The peer: a plain rclpy node that decodes and resizes every frame when it arrives.

It resizes as the client node does, so that the two differ in how they handle messages alone.

usage: python benchmarks/ros_node_cost/plain_node.py [--keep-memory | --take-nothing]

It runs until SIGTERM. `--keep-memory` keeps freed memory of the size of images;
`--take-nothing` leaves every message to the middleware.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from robot import CAMERAS
from sensor_msgs.msg import Image, JointState

from flash_transport import resize_with_pad
from openpi_flash_client_node.ros.malloc_tuning import keep_image_memory
from openpi_flash_client_node.ros.sensor_subscription import SensorSubscription


class PlainNode(Node):
    """Keeps each camera's newest image in the policy's size, and the newest joint positions."""

    def __init__(self) -> None:
        super().__init__("plain")  # type: ignore[no-untyped-call]
        self.images: dict[str, np.ndarray] = {}
        self.positions = np.zeros(0)
        for camera in CAMERAS:
            callback = partial(self._on_image, camera)
            self.create_subscription(Image, f"/{camera}/image_raw", callback, 1)
        self.create_subscription(JointState, "/joint_states", self._on_joints, 1)

    def _on_image(self, camera: str, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8)
        pixels = pixels.reshape(message.height, message.width, 3)
        self.images[camera] = resize_with_pad(pixels, 224, 224)

    def _on_joints(self, message: JointState) -> None:
        self.positions = np.asarray(message.position)


class SilentNode(Node):
    """Subscribes to the same topics and takes nothing."""

    def __init__(self) -> None:
        super().__init__("silent")  # type: ignore[no-untyped-call]
        for camera in CAMERAS:
            SensorSubscription(self, Image, f"/{camera}/image_raw", print, 2)
        SensorSubscription(self, JointState, "/joint_states", print, 10)


def main(options: Sequence[str]) -> None:
    """Spin until SIGTERM."""
    if "--keep-memory" in options:
        keep_image_memory()
    rclpy.init()
    is_silent = "--take-nothing" in options
    node = SilentNode() if is_silent else PlainNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        while rclpy.ok():
            # where nothing else happens, rclpy now and then sleeps through a signal
            executor.spin_once(timeout_sec=1.0 if is_silent else None)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])

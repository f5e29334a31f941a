"""A camera's driver as a process: `python -m camera_process TOPIC` sends small pictures."""

from __future__ import annotations

import array
import sys

import rclpy
from sensor_msgs.msg import Image

PERIOD = 0.05
HEIGHT, WIDTH = 24, 32


def main():
    rclpy.init()
    node = rclpy.create_node("camera")
    topic = node.create_publisher(Image, sys.argv[1], 2)

    def show():
        image = Image(height=HEIGHT, width=WIDTH, step=3 * WIDTH, encoding="rgb8")
        image.data = array.array("B", bytes(HEIGHT * 3 * WIDTH))
        image.header.stamp = node.get_clock().now().to_msg()
        topic.publish(image)

    node.create_timer(PERIOD, show)
    rclpy.spin(node)


if __name__ == "__main__":
    main()

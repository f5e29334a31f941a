"""What the robot's packages may name: distributions, and the keys that rosdep knows on each.

A key belongs here once it was looked up in ros/rosdistro: a system package in rosdep/python.yaml,
with a rule for Ubuntu; a ROS package in the distribution.yaml of each distribution, released.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
DISTRIBUTIONS = ("humble", "jazzy", "kilted", "lyrical")
MANIFESTS = sorted(ROOT.glob("src/*/package.xml"))

SYSTEM_KEYS = frozenset(
    {
        "python3-hypothesis",
        "python3-numpy",
        "python3-pytest",
        "python3-pytest-timeout",
        "python3-websockets",
        "python3-yaml",
    }
)
"""In rosdep/python.yaml as of August 2026."""

ROS_KEYS = frozenset(
    {
        "action_msgs",
        "ament_cmake",
        "ament_cmake_python",
        "ament_index_python",
        "builtin_interfaces",
        "diagnostic_msgs",
        "geometry_msgs",
        "launch",
        "launch_ros",
        "lifecycle_msgs",
        "nav_msgs",
        "rcl_interfaces",
        "rclpy",
        "rosgraph_msgs",
        "rosidl_default_generators",
        "rosidl_default_runtime",
        "sensor_msgs",
        "std_msgs",
        "std_srvs",
        "tf2_msgs",
        "trajectory_msgs",
    }
)
"""Released in all of `DISTRIBUTIONS` as of August 2026."""

"""What ROS messages mean: numbers, images and texts, whatever the distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flash_transport import decode_image, image_to_rgb

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JOINT_STATE = "sensor_msgs/msg/JointState"
JOINT_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
FLOAT64_ARRAY = "std_msgs/msg/Float64MultiArray"
BOOL, STRING = "std_msgs/msg/Bool", "std_msgs/msg/String"
_SECOND = 1_000_000_000


def stamp_of(message: Any) -> int | None:
    """The header's stamp, ns; None where there is none, or it was not set."""
    header = getattr(message, "header", None)
    if header is None:
        return None
    stamp = int(header.stamp.sec) * _SECOND + int(header.stamp.nanosec)
    return stamp or None


def image_of(message: Any, kind: str) -> np.ndarray:
    """An image, uint8 [H, W, 3].

    Args:
        message: sensor_msgs/Image or CompressedImage.
        kind: its type.

    Raises:
        ImageError: an encoding that is not known, or data that are cut off.
    """
    if kind == COMPRESSED_IMAGE:
        return decode_image(np.asarray(message.data, np.uint8).tobytes())
    return image_to_rgb(
        np.asarray(message.data, np.uint8).tobytes(),
        height=message.height,
        width=message.width,
        step=message.step,
        encoding=message.encoding,
        is_bigendian=bool(message.is_bigendian),
    )


def joint_numbers(message: Any, field: str) -> dict[str, float]:
    """``position``, ``velocity`` or ``effort`` by joint, as many as a JointState has."""
    numbers = getattr(message, field)
    return {name: float(x) for name, x in zip(message.name, numbers, strict=False)}


def trajectory_points(message: Any, field: str) -> tuple[list[str], list[tuple[int, np.ndarray]]]:
    """The joints of a JointTrajectory, and its points: ns after its start, numbers [J].

    Args:
        message: trajectory_msgs/JointTrajectory.
        field: ``positions`` or ``velocities``; empty where a point has none.
    """
    points = []
    for point in message.points:
        after = int(point.time_from_start.sec) * _SECOND + int(point.time_from_start.nanosec)
        points.append((after, np.asarray(getattr(point, field), np.float64)))
    return list(message.joint_names), points


def vector_of(message: Any, kind: str) -> np.ndarray:
    """The numbers [D] of a message: an array, a scalar, a pose (x, y, z, qx, qy, qz, qw), a twist.

    Raises:
        KeyError: the type holds none that are known.
    """
    return np.asarray(VECTORS[kind](message), np.float64).reshape(-1)


def _pose(pose: Any) -> list[float]:
    p, q = pose.position, pose.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]


def _twist(twist: Any) -> list[float]:
    v, w = twist.linear, twist.angular
    return [v.x, v.y, v.z, w.x, w.y, w.z]


def _wrench(wrench: Any) -> list[float]:
    f, t = wrench.force, wrench.torque
    return [f.x, f.y, f.z, t.x, t.y, t.z]


VECTORS: dict[str, Callable[[Any], Any]] = {
    FLOAT64_ARRAY: lambda message: message.data,
    "std_msgs/msg/Float32MultiArray": lambda message: message.data,
    "std_msgs/msg/Float64": lambda message: message.data,
    "std_msgs/msg/Float32": lambda message: message.data,
    "std_msgs/msg/Bool": lambda message: float(message.data),
    "geometry_msgs/msg/PoseStamped": lambda message: _pose(message.pose),
    "geometry_msgs/msg/Pose": _pose,
    "geometry_msgs/msg/TwistStamped": lambda message: _twist(message.twist),
    "geometry_msgs/msg/Twist": _twist,
    "geometry_msgs/msg/WrenchStamped": lambda message: _wrench(message.wrench),
    "nav_msgs/msg/Odometry": lambda message: _twist(message.twist.twist),
}
"""Numbers of a message by its type."""

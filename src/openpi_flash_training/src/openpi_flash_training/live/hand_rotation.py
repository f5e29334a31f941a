"""The hand's rotation as a quaternion or a matrix, and the pose that a matrix means. Pure.

The hand's x axis points out of the gripper, its y axis along the fingers' way.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sim_robot.kinematics import HAND, Pose

Array = NDArray[np.float64]


def rotation_of(pose: Pose, pan: float) -> Array:
    """The hand's axes in columns, world, [3, 3].

    Args:
        pose: of the hand.
        pan: the joint shoulder_pan, rad.
    """
    return _about_z(pan) @ _about_y(pose.pitch) @ _about_z(pose.yaw) @ _about_x(pose.roll)


def pose_for(point: Array, rotation: Array) -> Pose:
    """The pose of a hand that is somewhere, world, m [3], and turned so [3, 3]."""
    x, y, z = (float(value) for value in point)
    yaw, local = 0.0, rotation
    for _ in range(40):  # the hand's yaw shifts the plane of the arm a little
        side = HAND * math.sin(yaw)
        out = math.sqrt(max(x * x + y * y - side * side, 1e-9))
        local = _about_z(math.atan2(side, out) - math.atan2(y, x)) @ rotation
        yaw = math.asin(max(-1.0, min(1.0, float(local[1, 0]))))
    pitch = math.atan2(-float(local[2, 0]), float(local[0, 0]))
    rolled = _about_z(-yaw) @ _about_y(-pitch) @ local
    return Pose((x, y, z), pitch, yaw, math.atan2(float(rolled[2, 1]), float(rolled[1, 1])))


def quaternion_wxyz(rotation: Array) -> Array:
    """The unit quaternion of a rotation matrix, the real part first and not negative, [4]."""
    m = rotation
    # the largest of the four squares is never near zero
    squares = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    best = int(np.argmax(squares))
    rows = (
        (squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]),
        (m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]),
        (m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]),
        (m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]),
    )
    quaternion = np.array(rows[best]) / (2.0 * math.sqrt(squares[best]))
    return quaternion if quaternion[0] >= 0 else -quaternion


def _about_x(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _about_z(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

"""A rotation, from a quaternion to what a policy reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.settings.state_inputs import Rotation


def rotation_numbers(xyzw: Sequence[float], rotation: Rotation) -> NDArray[np.float64]:
    """The numbers of a rotation, [3], [4] or [6]; NaN if the quaternion is none.

    Args:
        xyzw: the quaternion, [4]; its length need not be 1.
        rotation: how it is to be written.
    """
    quaternion = np.array(xyzw, dtype=np.float64)
    length = float(np.linalg.norm(quaternion))
    if not length > TOO_SHORT:
        return np.full(rotation.size, np.nan)
    quaternion /= length
    if quaternion[3] < 0.0:
        quaternion = -quaternion  # the same rotation, by at most half a turn
    return _WRITERS[rotation](quaternion)


TOO_SHORT = 1e-6
"""A quaternion that was never set is all zeros."""

STRAIGHT = 1.0 - 1e-12
"""Sine of a pitch that points straight up or down."""


def _rotvec(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    axis, w = quaternion[:3], quaternion[3]
    sine = float(np.linalg.norm(axis))
    if sine < TOO_SHORT:
        return 2.0 * axis
    return axis / sine * (2.0 * np.arctan2(sine, w))


def _rpy(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z, w = quaternion
    sine = 2.0 * (w * y - z * x)
    if abs(sine) > STRAIGHT:  # only the sum of roll and yaw is known, or their difference
        return np.array([2.0 * np.arctan2(x, w), np.copysign(np.pi / 2.0, sine), 0.0])
    return np.array(
        [
            np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y)),
            np.arcsin(sine),
            np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)),
        ]
    )


def _rot6d(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z, w = quaternion
    first = [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)]
    second = [2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)]
    return np.array(first + second)


_WRITERS = {
    Rotation.QUAT_XYZW: lambda quaternion: quaternion,
    Rotation.ROTVEC: _rotvec,
    Rotation.RPY: _rpy,
    Rotation.ROT6D: _rot6d,
}

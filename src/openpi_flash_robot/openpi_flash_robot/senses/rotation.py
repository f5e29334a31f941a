"""Rotations: from a quaternion to what a policy reads, and from what it writes to rotation vectors.

Quaternions here are x, y, z, w.
"""

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


def rotation_vectors(numbers: NDArray[np.float64], rotation: Rotation) -> NDArray[np.float64]:
    """The rotation vectors of rotations, [K, 3], each of half a turn at most.

    Args:
        numbers: the rotations, [K, 3], [K, 4] or [K, 6]; NaN where they are none.
        rotation: how they are written.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        quaternions = _READERS[rotation](numbers)
        quaternions = np.where(quaternions[:, 3:] < 0.0, -quaternions, quaternions)
        sines = np.linalg.norm(quaternions[:, :3], axis=1, keepdims=True)
        angles = 2.0 * np.arctan2(sines, quaternions[:, 3:])
        factors = np.where(sines < TOO_SHORT, 2.0, angles / np.maximum(sines, TOO_SHORT))
    vectors: NDArray[np.float64] = quaternions[:, :3] * factors
    return vectors


def quaternion_of(vector: Sequence[float]) -> tuple[float, float, float, float]:
    """The quaternion of a rotation vector [3], its real part last."""
    x, y, z, w = _of_vectors(np.asarray(vector, dtype=np.float64)[np.newaxis])[0].tolist()
    return x, y, z, w


def continued(vectors: NDArray[np.float64], begin: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same rotations by vectors that go on from each other, [K, 3].

    A rotation has many vectors, whole turns apart; beside half a turn the shortest one jumps to the
    other side.

    Args:
        vectors: rotation vectors, [K, 3]; NaN stays.
        begin: what the first one goes on from, [3].
    """
    found = np.array(vectors, dtype=np.float64)
    before = np.asarray(begin, dtype=np.float64)
    for index, vector in enumerate(vectors):
        if not np.isfinite(vector).all():
            continue
        length = float(np.linalg.norm(vector))
        axis = vector / length if length > TOO_SHORT else _direction(before)
        turns = np.round((float(before @ axis) - length) / TURN)
        before = found[index] = vector + axis * (turns * TURN)
    return found


def _direction(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > TOO_SHORT else np.array([1.0, 0.0, 0.0])


TURN = 2.0 * np.pi

TOO_SHORT = 1e-6
"""A quaternion that was never set is all zeros."""

TOO_SHORT_TO_MEAN = 0.1
"""A policy's quaternion, or column of a matrix, has a length near 1; a much shorter one points
nowhere."""

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


def _of_quaternions(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return _of_length_one(numbers)


def _of_vectors(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    halves = np.linalg.norm(numbers, axis=1, keepdims=True) / 2.0
    # sin(a) / a, also at 0
    return np.hstack([numbers * (np.sinc(halves / np.pi) / 2.0), np.cos(halves)])


def _of_rpy(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    cr, cp, cy = np.cos(numbers / 2.0).T
    sr, sp, sy = np.sin(numbers / 2.0).T
    return np.stack(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ],
        axis=1,
    )


def _of_rot6d(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the Gram-Schmidt process (Zhou et al., arXiv 1812.07035), then the greatest component."""
    first = _of_length_one(numbers[:, :3])
    second = numbers[:, 3:] - (first * numbers[:, 3:]).sum(axis=1, keepdims=True) * first
    second = _of_length_one(second)
    m = np.stack([first, second, np.cross(first, second)], axis=2)
    trace = m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2]
    # four times the products of each component with all of them, [K, 4, 4]
    products = np.empty((len(m), 4, 4))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        products[:, i, i] = 1.0 + 2.0 * m[:, i, i] - trace
        products[:, i, j] = products[:, j, i] = m[:, j, i] + m[:, i, j]
        products[:, i, 3] = products[:, 3, i] = m[:, k, j] - m[:, j, k]
    products[:, 3, 3] = 1.0 + trace
    squares = np.einsum("kii->ki", products)
    greatest = np.argmax(np.nan_to_num(squares), axis=1)
    return _of_length_one(products[np.arange(len(m)), greatest])


def _of_length_one(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > TOO_SHORT_TO_MEAN, vectors / lengths, np.nan)


_WRITERS = {
    Rotation.QUAT_XYZW: lambda quaternion: quaternion,
    Rotation.QUAT_WXYZ: lambda quaternion: np.roll(quaternion, 1),
    Rotation.ROTVEC: _rotvec,
    Rotation.RPY: _rpy,
    Rotation.ROT6D: _rot6d,
}
_READERS = {
    Rotation.QUAT_XYZW: _of_quaternions,
    Rotation.QUAT_WXYZ: lambda numbers: _of_quaternions(np.roll(numbers, -1, axis=1)),
    Rotation.ROTVEC: _of_vectors,
    Rotation.RPY: _of_rpy,
    Rotation.ROT6D: _of_rot6d,
}

"""From the policy's poses to those of the axes and back: the axes have rotation vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.senses.rotation import (
    continued,
    quaternion_of,
    rotation_numbers,
    rotation_vectors,
)
from openpi_flash_robot.settings.pose_columns import PoseColumns


def with_vectors(
    actions: NDArray[np.float64], poses: Sequence[PoseColumns], near: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One number for each axis, [H, N]: rotation vectors in place of the policy's rotations.

    Args:
        actions: the policy's numbers, [H, C]; may hold NaN.
        poses: where they are.
        near: where the axes are, [N]: the vectors of a rotation go on from there.
    """
    pieces, begin = [], 0
    for pose in poses:
        columns = pose.rotation_columns
        vectors = rotation_vectors(actions[:, columns.start : columns.stop], pose.rotation)
        here = np.nan_to_num(near[list(pose.rotation_axes)])
        pieces += [actions[:, begin : columns.start], continued(vectors, here)]
        begin = columns.stop
    return np.hstack([*pieces, actions[:, begin:]]) if pieces else actions


def with_rotations(
    values: NDArray[np.float64], poses: Sequence[PoseColumns]
) -> NDArray[np.float64]:
    """The inverse of `with_vectors`: [H, C] of [H, N]."""
    pieces, begin = [], 0
    for pose in poses:
        axes = pose.rotation_axes
        rotations = [
            rotation_numbers(quaternion_of(vector), pose.rotation)
            for vector in values[:, axes.start : axes.stop]
        ]
        pieces += [values[:, begin : axes.start], np.array(rotations)]
        begin = axes.stop
    return np.hstack([*pieces, values[:, begin:]]) if pieces else values

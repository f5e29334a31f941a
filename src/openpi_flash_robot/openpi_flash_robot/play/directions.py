"""Limits of a vector's length, as limits of its components: an end effector has one speed.

The player bounds each axis by itself. Bounds whose vector is as long as the limit keep every motion
within it: equal ones for motions in any direction, and for a plan those that its own way needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.play.motion import Joints
from openpi_flash_robot.settings.node_settings import TURNING, Direction

LEAST_SHARE = 0.1
"""Of a plan's speed, for an axis that the plan hardly moves: it may have to come back to its
path."""

RESERVE = 0.95
"""Share of the speed that is given out: an axis that slows down from the bounds of the plan before,
while others speed up to those of the next one, makes the vector longer for a moment."""


def any_direction(limits: JointLimits, directions: Sequence[Direction]) -> JointLimits:
    """The limits with those of each group so low that they bound its vector in any direction."""
    velocity, acceleration = limits.velocity.copy(), limits.acceleration.copy()
    for direction in directions:
        axes = list(direction.axes)
        fastest, hardest = limits.velocity[axes].min(), limits.acceleration[axes].min()
        if direction.is_rotation:
            hardest -= TURNING * fastest**2
        velocity[axes] = RESERVE * fastest / np.sqrt(len(axes))
        acceleration[axes] = hardest / np.sqrt(len(axes))
    return replace(limits, velocity=velocity, acceleration=acceleration)


def along(
    limits: JointLimits,
    fastest: Joints,
    directions: Sequence[Direction],
    *,
    start_velocity: Joints,
    seconds: NDArray[np.float64],
    positions: NDArray[np.float64],
) -> JointLimits:
    """The limits with the velocity of each group given to its axes as a plan needs it.

    Args:
        limits: of `any_direction`.
        fastest: the limits of velocity as they are set, [N].
        directions: the groups.
        start_velocity: how fast the axes go when the plan takes over, [N].
        seconds: when the points of its way are due, [K], K >= 2.
        positions: the points, [K, N].
    """
    if not directions:
        return limits
    steps = np.diff(positions, axis=0) / np.diff(seconds)[:, np.newaxis]
    speeds = np.maximum(np.abs(steps).max(axis=0), np.abs(start_velocity))
    velocity = limits.velocity.copy()
    for direction in directions:
        axes = list(direction.axes)
        length = float(np.linalg.norm(speeds[axes]))
        if length <= 0.0:
            continue
        needed = np.maximum(speeds[axes], LEAST_SHARE * length)
        share = RESERVE * fastest[axes].min() / np.linalg.norm(needed)
        velocity[axes] = needed * share
    return replace(limits, velocity=velocity)

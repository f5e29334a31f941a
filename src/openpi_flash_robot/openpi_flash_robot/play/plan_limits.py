"""What the settings and a chunk allow a plan, and where a limit keeps it off its chunk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.directions import any_direction
from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.play.smooth_path import SmoothPath
from openpi_flash_robot.settings.node_settings import PlayerSettings

SLOWEST = 1e-3
"""rad/s or m/s; a velocity limit must be above zero."""

OFF_CHUNK = 1e-3
"""rad or m; a motion that is farther from the chunk than this is limited there."""


def limits_of(settings: PlayerSettings) -> JointLimits:
    """The limits that the settings give to every motion."""
    limits = JointLimits(
        np.asarray(settings.position_lower, dtype=np.float64),
        np.asarray(settings.position_upper, dtype=np.float64),
        np.asarray(settings.max_velocity, dtype=np.float64),
        np.asarray(settings.max_acceleration, dtype=np.float64),
    )
    return any_direction(limits, settings.directions)


def no_faster_than_asked(
    limits: JointLimits, chunk: Chunk, first_step: int, last_step: int
) -> JointLimits:
    """The limits, and of a rate no more than the policy says: what it lost is not caught up."""
    if not any(chunk.rates):
        return limits
    steps = np.abs(chunk.actions[first_step : last_step + 1]) / to_seconds(chunk.step_ns)
    asked = np.maximum(steps.max(axis=0), SLOWEST)
    return replace(
        limits, velocity=np.where(chunk.rates, np.minimum(limits.velocity, asked), limits.velocity)
    )


def is_narrower(limits: JointLimits, before: JointLimits) -> bool:
    """Whether a motion within the limits of before may go beyond these."""
    return bool(
        np.any(limits.lower > before.lower)
        or np.any(limits.upper < before.upper)
        or np.any(limits.velocity < before.velocity)
    )


def limited_steps(
    path: SmoothPath, motion: Motion, due_ns: NDArray[np.int64], limits: JointLimits
) -> int:
    """At how many steps a motion is off the path that begins with it and knows no limits.

    The braking at the end does not count: a newer chunk takes its place.
    """
    at = (due_ns - motion.start_ns) / SECOND
    fastest = np.minimum(np.abs(path.velocities(at[-1:])[0]), limits.velocity)
    braking = fastest / limits.acceleration
    counted = due_ns[at <= at[-1] - braking.max()]
    wanted = path.positions((counted - motion.start_ns) / SECOND)
    reached = motion.positions_at(counted)
    return int(np.any(np.abs(wanted - reached) > OFF_CHUNK, axis=1).sum())

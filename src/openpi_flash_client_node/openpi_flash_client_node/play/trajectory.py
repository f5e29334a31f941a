"""A plan in the form that a joint trajectory controller plays without a jerk.

What such a controller does with a new trajectory decides the rules here: it forgets the old one,
starts at reception (the stamp is zero), and interpolates from where it is to the first point. So
passed points are dropped and the first point lies at least one step ahead. Velocities are given at
every point, or the controller would change speed in steps; the last is zero, as it demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_client_node.nanoseconds import SECOND
from openpi_flash_client_node.play.plan import Plan


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Points for one controller, to be played from the moment of reception.

    Attributes:
        times_ns: from the start, int64 [K], strictly increasing, > 0.
        positions: float64 [K, M], rad or m.
        velocities: float64 [K, M], rad/s or m/s; the last is zero.
    """

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


def trajectory_of(plan: Plan, now: int, columns: Sequence[int]) -> Trajectory:
    """What is left of a plan, for the joints of one controller.

    Args:
        plan: the running plan.
        now: this moment.
        columns: which of the plan's joints the controller has, in its order.
    """
    lead_ns = now + plan.step_ns
    kept = plan.times_ns >= lead_ns
    if kept.any():
        times_ns, positions = plan.times_ns[kept], plan.positions[kept]
    else:  # too near the end for a step's lead: go where it ends, a step from now
        times_ns, positions = np.array([lead_ns], dtype=np.int64), plan.positions[-1:]
    times_ns = times_ns - now
    positions = positions[:, list(columns)]
    from_here = plan.sample(now)[list(columns)]
    return Trajectory(times_ns, positions, _velocities(from_here, times_ns, positions))


def hold_trajectory(positions: NDArray[np.float64], hold_ns: int) -> Trajectory:
    """Come to rest at these positions [M] within `hold_ns`."""
    return Trajectory(
        np.array([hold_ns], dtype=np.int64), positions[np.newaxis], np.zeros((1, len(positions)))
    )


def _velocities(
    from_here: NDArray[np.float64], times_ns: NDArray[np.int64], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Velocities at the points by central differences, zero where the motion turns and at the end.

    Zero at a turn, and at most three times the slower neighbour elsewhere, keeps the cubic between
    two points from leaving the range of the points, and with it the position limits.
    """
    times = np.concatenate([[0], times_ns]) / SECOND
    path = np.vstack([from_here, positions])
    slopes = np.diff(path, axis=0) / np.diff(times)[:, np.newaxis]
    velocities = np.zeros_like(positions)
    if len(positions) > 1:
        spans = (times[2:] - times[:-2])[:, np.newaxis]
        central = (path[2:] - path[:-2]) / spans
        slower = np.minimum(np.abs(slopes[:-1]), np.abs(slopes[1:]))
        turns = slopes[:-1] * slopes[1:] <= 0
        bounded = np.clip(central, -3.0 * slower, 3.0 * slower)
        velocities[:-1] = np.where(turns, 0.0, bounded)
    return velocities

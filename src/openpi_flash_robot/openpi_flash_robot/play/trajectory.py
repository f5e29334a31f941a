"""A motion in the form that a joint trajectory controller plays without a jerk.

What such a controller does with a new trajectory decides the rules here: it forgets the old one. A
stamp in the past lands it in the middle of the points, without a way from where it is; so windows
of one motion, each stamped with the moment at which it was cut, continue each other exactly. A
stamp of zero starts the points at reception, with a way from where the controller is to the first
one: that needs no common clock, and every delay of the delivery delays the motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.motion import Motion

SOONEST_NS = 20_000_000
"""Of points that count from reception: a controller gets at least this long to the first one."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Points for one controller.

    Attributes:
        start_ns: what the times count from, on the ROS clock; None: from reception.
        times_ns: int64 [K], strictly increasing, >= 0.
        positions: float64 [K, M], rad or m.
        velocities: float64 [K, M], rad/s or m/s; the last is zero.
    """

    start_ns: int | None
    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


def trajectory_of(
    window: Motion, now: int, columns: Sequence[int], *, is_stamped: bool
) -> Trajectory:
    """A window for the joints of one controller.

    Args:
        window: of the motion, from now on until rest.
        now: this moment.
        columns: which of the motion's joints the controller has, in its order.
        is_stamped: whether its points belong to moments of the ROS clock.
    """
    kept = slice(0, None)
    if not is_stamped:
        late = int(np.searchsorted(window.times_ns, now + SOONEST_NS))
        kept = slice(min(late, len(window.times_ns) - 1), None)
    return Trajectory(
        start_ns=now if is_stamped else None,
        times_ns=window.times_ns[kept] - now,
        positions=window.positions[kept][:, list(columns)],
        velocities=window.velocities[kept][:, list(columns)],
    )


def motion_of(trajectory: Trajectory) -> Motion:
    """The motion of a trajectory whose points belong to moments of the ROS clock."""
    assert trajectory.start_ns is not None, "the trajectory counts from its reception"
    return Motion(
        trajectory.start_ns + trajectory.times_ns, trajectory.positions, trajectory.velocities
    )

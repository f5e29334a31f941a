"""What a joint may do: position, velocity and acceleration, and what follows for stopping in time.

Everything here is exact for motions of piecewise constant acceleration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.ma  # np.unique imports it when first called: 60 ms that no motion may wait for

from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.play.motion import Joints, Motion, MotionState

STILL = 1e-9
"""rad/s or m/s; a slower joint is at rest."""


@dataclass(frozen=True, eq=False)
class JointLimits:
    """The limits of every joint, each [N].

    Attributes:
        lower: lowest position, rad or m; -inf for none.
        upper: highest position, rad or m; inf for none.
        velocity: rad/s or m/s, > 0.
        acceleration: rad/s^2 or m/s^2, > 0.
    """

    lower: Joints
    upper: Joints
    velocity: Joints
    acceleration: Joints

    def within(self, margin: Joints) -> JointLimits:
        """The same with positions that stay away from their ends by a margin [N]."""
        margin = np.minimum(margin, (self.upper - self.lower) / 2.0)
        return JointLimits(
            self.lower + margin, self.upper - margin, self.velocity, self.acceleration
        )


def brake(state: MotionState, at_ns: int, shortest_ns: int, limits: JointLimits) -> Motion:
    """Come to rest from a state, straight ahead and never backwards.

    All joints stop together, so that the arm keeps its direction, except those that would pass
    their position limit: these stop sooner. No joint brakes harder than its acceleration.

    Args:
        state: where the joints are, and how fast.
        at_ns: when that is.
        shortest_ns: brake for at least this long; 0 is as hard as the limits allow.
        limits: the acceleration must be above zero; the position limits need not hold yet.
    """
    # called in every control period: few calls of numpy, for whose price seven joints are few
    positions, velocities = state.positions, state.velocities
    speed = np.abs(velocities)
    moves = speed > STILL
    if not moves.any():
        return Motion(
            np.array([at_ns], dtype=np.int64),
            positions[np.newaxis],
            np.zeros((1, len(positions))),
        )
    hardest = speed / limits.acceleration
    together = max(float(hardest.max()), to_seconds(shortest_ns))
    room = np.where(velocities > 0, limits.upper - positions, positions - limits.lower)
    longest = 2.0 * np.maximum(room, 0.0) / np.maximum(speed, STILL)
    within = np.minimum(np.maximum(longest, hardest), together)
    durations = np.where(moves, within, hardest)  # a joint at rest needs no room
    ends_ns = np.ceil(durations * SECOND).astype(np.int64)
    times_ns = np.array(sorted({0, *ends_ns.tolist()}))
    lengths = np.maximum(ends_ns, 1) / SECOND
    share = np.minimum((times_ns / SECOND)[:, np.newaxis] / lengths, 1.0)
    return Motion(
        at_ns + times_ns,
        positions + velocities * lengths * share * (1.0 - share / 2.0),
        velocities * (1.0 - share),
    )


def can_stop(state: MotionState, limits: JointLimits) -> bool:
    """Whether joints in a state can come to rest within the position limits.

    Args:
        state: where the joints are, and how fast.
        limits: joints at rest beyond them can.
    """
    moves = np.abs(state.velocities) > STILL
    bound = np.where(state.velocities > 0, limits.upper, limits.lower)
    bound = np.where(moves, bound, state.positions)  # a joint at rest needs no room
    room = np.sign(state.velocities) * (bound - state.positions)
    way = state.velocities**2 / (2.0 * limits.acceleration)
    return bool(np.all((way <= room) | ~moves))


def longest_step(room: Joints, change: Joints) -> Joints:
    """The longest step after which a joint can still stop within its room.

    Steps are equally long in time, and each may be shorter than the one before by `change`: the
    longest d with d + (d - change) + (d - 2 change) + ... <= room.

    Args:
        room: [N], >= 0, finite.
        change: [N], > 0; acceleration times the square of a step's time.
    """
    whole = np.floor((np.sqrt(1.0 + 8.0 * room / change) - 1.0) / 2.0)
    steps: Joints = (room + change * whole * (whole + 1.0) / 2.0) / (whole + 1.0)
    return steps

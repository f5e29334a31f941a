"""A motion: the curve that a joint trajectory controller plays, as points with velocities.

Between two points the controller draws the cubic that meets their positions and velocities. Where
the acceleration between two points is constant, that cubic is the motion itself, so that a bound
on the acceleration of a `Motion` is a bound on what the arm is told to do.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import SECOND, to_seconds

CLOSEST_NS = 20_000
"""Points that are cut out of a motion lie at least this far apart: a cubic over less is noise."""

Joints = NDArray[np.float64]
"""One value per joint, [N]."""


@dataclass(frozen=True, eq=False)
class MotionState:
    """Where the joints are at one moment of a motion, and how fast they go.

    Attributes:
        positions: [N], rad or m.
        velocities: [N], rad/s or m/s.
    """

    positions: Joints
    velocities: Joints

    @staticmethod
    def at_rest(positions: Joints) -> MotionState:
        """These positions, with no velocity."""
        return MotionState(np.array(positions, dtype=np.float64), np.zeros(len(positions)))


@dataclass(frozen=True, eq=False)
class Motion:
    """Points in time with positions and velocities; at rest before the first and after the last.

    Attributes:
        times_ns: int64 [K], strictly increasing, on the ROS clock; K >= 1.
        positions: float64 [K, N], rad or m.
        velocities: float64 [K, N], rad/s or m/s; the last is zero.
    """

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]

    @cached_property
    def _times(self) -> list[int]:
        """The same times: a motion is sampled in every control period, and lists are faster."""
        times: list[int] = self.times_ns.tolist()
        return times

    @property
    def start_ns(self) -> int:
        """When the first point is due."""
        return self._times[0]

    @property
    def end_ns(self) -> int:
        """When the last point is due; from then on the joints rest."""
        return self._times[-1]

    def sample(self, at_ns: int) -> MotionState:
        """The state at a moment."""
        after = bisect_right(self._times, at_ns)
        if after == 0:
            return MotionState.at_rest(self.positions[0])
        if after == len(self._times):
            return MotionState.at_rest(self.positions[-1])
        begin_ns = self._times[after - 1]
        length = to_seconds(self._times[after] - begin_ns)
        ends = slice(after - 1, after), slice(after, after + 1)
        elapsed = to_seconds(at_ns - begin_ns)
        positions, velocities = self._cubics(*ends, length, elapsed)
        return MotionState(positions[0], velocities[0])

    def samples(
        self, moments_ns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions and velocities, each [T, N], at moments [T]; needs two points at least."""
        after = np.searchsorted(self.times_ns, moments_ns, side="right")
        piece = np.clip(after, 1, len(self.times_ns) - 1)
        begin_ns = self.times_ns[piece - 1]
        length = (self.times_ns[piece] - begin_ns)[:, np.newaxis] / SECOND
        elapsed = (moments_ns - begin_ns)[:, np.newaxis] / SECOND
        positions, velocities = self._cubics(piece - 1, piece, length, elapsed)
        for is_at_rest, point in ((after == 0, 0), (after == len(self.times_ns), -1)):
            positions[is_at_rest], velocities[is_at_rest] = self.positions[point], 0.0
        return positions, velocities

    def _cubics(
        self, before: Any, after: Any, length: Any, elapsed: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions and velocities within pieces, some seconds after their first points."""
        p0, p1 = self.positions[before], self.positions[after]
        v0, v1 = self.velocities[before], self.velocities[after]
        quadratic = (3.0 * (p1 - p0) / length - 2.0 * v0 - v1) / length
        cubic = (2.0 * (p0 - p1) / length + v0 + v1) / length**2
        return (
            p0 + elapsed * (v0 + elapsed * (quadratic + elapsed * cubic)),
            v0 + elapsed * (2.0 * quadratic + elapsed * 3.0 * cubic),
        )

    def positions_at(self, at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """The positions at several moments [M], as [M, N]; what `sample` says, all at once."""
        after = np.searchsorted(self.times_ns, at_ns, side="right")
        last = len(self.times_ns) - 1
        before, behind = np.maximum(after - 1, 0), np.minimum(after, last)
        p0, v0 = self.positions[before], self.velocities[before]
        p1, v1 = self.positions[behind], self.velocities[behind]
        rests = (after == 0) | (after > last)
        gaps_ns = np.where(rests, SECOND, self.times_ns[behind] - self.times_ns[before])
        length = (gaps_ns / SECOND)[:, np.newaxis]
        elapsed = np.where(rests, 0.0, (at_ns - self.times_ns[before]) / SECOND)[:, np.newaxis]
        quadratic = (3.0 * (p1 - p0) / length - 2.0 * v0 - v1) / length
        cubic = (2.0 * (p0 - p1) / length + v0 + v1) / length**2
        positions: NDArray[np.float64] = p0 + elapsed * (
            v0 + elapsed * (quadratic + elapsed * cubic)
        )
        return positions

    def until(self, at_ns: int, tail: Motion) -> Motion:
        """This motion until a moment, then another one, which begins there in the same state.

        Points before the tail's first one are kept, and points of the past cost nothing: a motion
        that does not reach the tail rests until then.
        """
        kept = bisect_right(self._times, min(at_ns, tail.start_ns) - CLOSEST_NS)
        if not kept:
            return tail
        return Motion(
            np.concatenate([self.times_ns[:kept], tail.times_ns]),
            np.concatenate([self.positions[:kept], tail.positions]),
            np.concatenate([self.velocities[:kept], tail.velocities]),
        )

    def since(self, at_ns: int) -> Motion:
        """This motion without what lies before a moment."""
        if at_ns <= self.start_ns:
            return self
        left = bisect_left(self._times, at_ns + CLOSEST_NS)
        if left == len(self._times):
            return rest(self.positions[-1], at_ns)
        here = self.sample(at_ns)
        return Motion(
            np.concatenate([[at_ns], self.times_ns[left:]]),
            np.concatenate([here.positions[np.newaxis], self.positions[left:]]),
            np.concatenate([here.velocities[np.newaxis], self.velocities[left:]]),
        )

    def shifted(self, by_ns: int) -> Motion:
        """The same motion at another time."""
        return Motion(self.times_ns + by_ns, self.positions, self.velocities)


def rest(positions: Joints, at_ns: int) -> Motion:
    """The motion that stays at these positions [N]."""
    state = MotionState.at_rest(positions)
    return Motion(
        np.array([at_ns], dtype=np.int64),
        state.positions[np.newaxis],
        state.velocities[np.newaxis],
    )

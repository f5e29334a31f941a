"""What a joint trajectory controller does with what it is sent. Pure: time is passed in.

The rules are those of ros2_control's `joint_trajectory_controller` on Jazzy with
`interpolate_from_desired_state: true`: a new trajectory replaces the running one at once, the way
to its first point starts at the current desired state, segments are cubic where both ends carry
velocities and linear otherwise, and the last point is held. Accelerations and efforts are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class TrajectoryRejectedError(ValueError):
    """The trajectory breaks a rule of the controller; the message says which."""


@dataclass(frozen=True)
class Point:
    """One point of a trajectory. Positions in rad (or the joint's unit), velocities per second."""

    time_from_start: float
    """Seconds after the trajectory's start."""
    positions: Sequence[float]
    velocities: Sequence[float] = ()
    """As long as positions, or empty."""


@dataclass(frozen=True)
class Trajectory:
    """What a JointTrajectory message says, in plain numbers."""

    joint_names: Sequence[str]
    points: Sequence[Point]
    start: float | None = None
    """When `time_from_start` counts from, in the follower's seconds; None: on arrival."""


@dataclass(frozen=True)
class Desired:
    """Where the joints should be now, in the follower's order of joints."""

    positions: Vector
    velocities: Vector


class TrajectoryFollower:
    """Answers where the joints should be at any time, in the order of `joint_names`.

    Args:
      joint_names: the joints it controls; a trajectory must name exactly these, in any order.
      positions: where to hold until the first trajectory arrives.
      allow_nonzero_velocity_at_end: accept a trajectory that ends while moving (it is then stopped
        dead). Off by default, as in the controller.
    """

    def __init__(
        self,
        joint_names: Sequence[str],
        positions: Sequence[float],
        *,
        allow_nonzero_velocity_at_end: bool = False,
    ) -> None:
        if len(positions) != len(joint_names):
            raise ValueError(f"{len(joint_names)} joints but {len(positions)} positions")
        self.joint_names = tuple(joint_names)
        self._allow_nonzero_velocity_at_end = allow_nonzero_velocity_at_end
        self._times = np.array([-math.inf])
        self._positions = np.array([positions], dtype=np.float64)
        self._velocities = np.zeros_like(self._positions)
        self._has_velocity = np.array([True])

    @property
    def end(self) -> float:
        """When the running trajectory ends; minus infinity before the first one."""
        return float(self._times[-1])

    def accept(self, trajectory: Trajectory, now: float) -> None:
        """Replace the running trajectory.

        Raises:
          TrajectoryRejectedError: the running trajectory then goes on.
        """
        order = self._column_order(trajectory.joint_names)
        self._check_points(trajectory)
        start = now if trajectory.start is None else trajectory.start
        times = start + np.array([point.time_from_start for point in trajectory.points])
        if trajectory.start is not None and times[-1] < now:
            raise TrajectoryRejectedError(
                f"trajectory ends in the past, {now - times[-1]:.3f} s before now"
            )
        current = self.desired(now)
        joints = len(self.joint_names)
        rest = [0.0] * joints
        velocities = [point.velocities or rest for point in trajectory.points]
        # The first knot is the bridge from the current desired state. A stamp in the past lands in
        # the middle of the points, without a bridge, as it does in the controller.
        self._times = np.concatenate([[now], times])
        self._positions = np.vstack(
            [current.positions, np.array([p.positions for p in trajectory.points])[:, order]]
        )
        self._velocities = np.vstack([current.velocities, np.array(velocities)[:, order]])
        self._has_velocity = np.array([True, *(bool(p.velocities) for p in trajectory.points)])
        if times[0] <= now:
            self._drop_first_knot()

    def desired(self, now: float) -> Desired:
        """Return where the joints should be at a time not before the last `accept`."""
        index = int(np.searchsorted(self._times, now, side="right"))
        if index == 0:  # asked about a time before the trajectory came
            return Desired(self._positions[0].copy(), np.zeros(len(self.joint_names)))
        if index == len(self._times):
            return Desired(self._positions[-1].copy(), np.zeros(len(self.joint_names)))
        before, after = index - 1, index
        duration = float(self._times[after] - self._times[before])
        elapsed = now - float(self._times[before])
        if self._has_velocity[before] and self._has_velocity[after]:
            return self._cubic(before, elapsed, duration)
        slope = (self._positions[after] - self._positions[before]) / duration
        return Desired(self._positions[before] + slope * elapsed, slope)

    def _cubic(self, before: int, elapsed: float, duration: float) -> Desired:
        p0, p1 = self._positions[before], self._positions[before + 1]
        v0, v1 = self._velocities[before], self._velocities[before + 1]
        c2 = (3 * (p1 - p0) / duration - 2 * v0 - v1) / duration
        c3 = (2 * (p0 - p1) / duration + v0 + v1) / duration**2
        return Desired(
            p0 + elapsed * (v0 + elapsed * (c2 + elapsed * c3)),
            v0 + elapsed * (2 * c2 + elapsed * 3 * c3),
        )

    def _drop_first_knot(self) -> None:
        self._times = self._times[1:]
        self._positions = self._positions[1:]
        self._velocities = self._velocities[1:]
        self._has_velocity = self._has_velocity[1:]

    def _column_order(self, names: Sequence[str]) -> list[int]:
        """Return, for each joint of ours, its column in the trajectory."""
        columns = {name: column for column, name in enumerate(names)}
        unknown = [name for name in names if name not in self.joint_names]
        missing = [name for name in self.joint_names if name not in columns]
        if unknown:
            raise TrajectoryRejectedError(
                f"unknown joints {unknown}, this controller has {list(self.joint_names)}"
            )
        if missing:
            raise TrajectoryRejectedError(f"joints {missing} are missing from the trajectory")
        if len(columns) != len(names):
            raise TrajectoryRejectedError(f"a joint is named twice in {list(names)}")
        return [columns[name] for name in self.joint_names]

    def _check_points(self, trajectory: Trajectory) -> None:
        joints = len(self.joint_names)
        if not trajectory.points:
            raise TrajectoryRejectedError("empty trajectory: it has no points")
        previous = -math.inf
        for index, point in enumerate(trajectory.points):
            if len(point.positions) != joints:
                raise TrajectoryRejectedError(
                    f"point {index} has {len(point.positions)} positions for {joints} joints"
                )
            if len(point.velocities) not in {0, joints}:
                raise TrajectoryRejectedError(
                    f"point {index} has {len(point.velocities)} velocities for {joints} joints"
                )
            values = (point.time_from_start, *point.positions, *point.velocities)
            if not all(map(math.isfinite, values)):
                raise TrajectoryRejectedError(f"point {index} holds a value that is not finite")
            if point.time_from_start < 0:
                raise TrajectoryRejectedError(
                    f"point {index} is due {point.time_from_start} s after the start: negative"
                )
            if point.time_from_start <= previous:
                raise TrajectoryRejectedError(
                    f"point {index} is due at {point.time_from_start} s, not after point "
                    f"{index - 1} at {previous} s"
                )
            previous = point.time_from_start
        last = trajectory.points[-1].velocities
        if any(last) and not self._allow_nonzero_velocity_at_end:
            raise TrajectoryRejectedError(
                f"velocity of the last point is not zero: {[round(v, 6) for v in last]}"
            )

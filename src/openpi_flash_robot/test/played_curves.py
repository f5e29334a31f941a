"""What a controller plays of a motion, sampled a thousand times a second."""

from dataclasses import dataclass

import numpy as np

from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.play.motion import Motion, rest

MS = 1_000_000


def limits_of(joints, *, velocity=0.5, acceleration=5.0, lower=-2.0, upper=2.0):
    return JointLimits(
        *(np.full(joints, float(value)) for value in (lower, upper, velocity, acceleration))
    )


@dataclass(frozen=True)
class Played:
    """Positions, velocities and accelerations, each [T, N]; time runs by a millisecond."""

    positions: np.ndarray
    velocities: np.ndarray
    accelerations: np.ndarray

    def shares_of(self, limits):
        """The greatest velocity and acceleration as shares of the limits."""
        return (
            float((np.abs(self.velocities) / limits.velocity).max()),
            float((np.abs(self.accelerations) / limits.acceleration).max()),
        )


def play(motion, begin=None, end=None):
    """Sample a motion from its start to its end, or between two moments."""
    begin = motion.start_ns if begin is None else begin
    end = motion.end_ns if end is None else end
    states = [motion.sample(int(at)) for at in range(begin, end + 2 * MS, MS)]
    positions = np.array([state.positions for state in states])
    velocities = np.array([state.velocities for state in states])
    return Played(positions, velocities, np.diff(velocities, axis=0) / 1e-3)


class Controller:
    """What a joint trajectory controller makes of windows with absolute stamps."""

    def __init__(self, positions):
        self.motion = rest(np.asarray(positions, dtype=np.float64), 0)

    def receive(self, window, now):
        """Forget the running window; go to a first point of the future from the desired state."""
        assert window.end_ns > now, "a controller refuses what ends in the past"
        if window.start_ns > now:
            here = self.motion.sample(now)
            window = Motion(
                np.append([now], window.times_ns),
                np.vstack([here.positions, window.positions]),
                np.vstack([here.velocities, window.velocities]),
            )
        self.motion = window

    def reference(self, now):
        return self.motion.sample(now)


def window_of(effects, joints):
    """The window of several controllers' trajectories as one motion; None if there is none."""
    if not effects:
        return None
    columns = np.concatenate([effect.controller.columns for effect in effects]).tolist()
    order = np.argsort(columns)
    assert len(order) == joints
    first = effects[0].trajectory
    return Motion(
        first.start_ns + first.times_ns,
        np.hstack([effect.trajectory.positions for effect in effects])[:, order],
        np.hstack([effect.trajectory.velocities for effect in effects])[:, order],
    )

"""Limits the jerk of a motion: its mean over a sliding window of time.

The mean over T seconds of a motion whose acceleration is at most A changes its acceleration by
(a(t + T/2) - a(t - T/2)) / T, so its jerk is at most 2 A / T. Its position, velocity and
acceleration are means too, so whatever convex bound the motion keeps, the mean keeps as well: the
limits of position, velocity and acceleration, and the room in which every joint can still stop. All
joints are averaged over the same T (`PlayerSettings.smoothing_ns`), so that the arm keeps to its
path.

The mean of quadratic pieces is made of cubic pieces with a continuous acceleration. A joint
trajectory controller draws exactly these between points with positions and velocities, so the
bounds hold for the curve that it plays.

The price is time: the mean at a moment needs the motion until T/2 later, so a motion can be changed
only from then on. (Moving average filters as trajectory generators: Biagiotti and Melchiorri 2012,
"FIR filters for online trajectory planning with time- and frequency-domain specifications".)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.play.motion import CLOSEST_NS, Joints, Motion, rest


class JerkLimiter:
    """A planned motion, and what is commanded of it.

    Attributes:
        next_ns: over how long motions are to be averaged from the next rest on; even.
        delay_ns: half of the time over which they are averaged now: what is planned must not be
            changed sooner than so long from now.
        planned: None before the first motion.
        commanded: its mean.
    """

    def __init__(self, smoothing_ns: int) -> None:
        """Begin without a motion; smoothing_ns as `PlayerSettings` has it."""
        self.next_ns = smoothing_ns
        self.delay_ns = smoothing_ns // 2
        self.planned: Motion | None = None
        self.commanded: Motion | None = None

    def take(self, motion: Motion) -> None:
        """Command the mean of a motion."""
        self.planned, self.commanded = motion, averaged(motion, self.delay_ns)

    def take_as_it_is(self, motion: Motion) -> None:
        """Command a motion itself, and what follows without a limit, until `begin_next`."""
        self.delay_ns = 0
        self.take(motion)

    def forget(self) -> None:
        """Command nothing."""
        self.planned = self.commanded = None

    def kept(self, motion: Motion, now: int) -> Motion:
        """What the mean of a motion is made of from now on."""
        return motion.since(now - 2 * self.delay_ns)

    @property
    def is_next(self) -> bool:
        """Whether motions are averaged over the time that is wanted."""
        return 2 * self.delay_ns == self.next_ns

    def begin_next(self) -> None:
        """Average over the time that is wanted from now on; what was commanded must be at rest."""
        self.delay_ns = self.next_ns // 2
        if self.commanded is not None:
            stands, since_ns = self.commanded.positions[-1], self.commanded.end_ns
            self.take(rest(stands, since_ns + self.delay_ns))


def averaged(motion: Motion, half_ns: int) -> Motion:
    """The mean of a motion over `half_ns` before and after each moment.

    Args:
        motion: of pieces of constant acceleration.
        half_ns: 0 returns the motion itself.

    Returns:
        A motion that begins `half_ns` earlier and ends `half_ns` later. What precedes a motion that
        begins with a velocity is not known: its mean begins `half_ns` later.
    """
    if half_ns == 0:
        return motion
    if len(motion.times_ns) == 1:
        return motion.shifted(-half_ns)
    is_from_rest = not motion.velocities[0].any()
    begin_ns = motion.start_ns + (-half_ns if is_from_rest else half_ns)
    # where the jerk may change
    times_ns = np.union1d(motion.times_ns - half_ns, motion.times_ns + half_ns)
    times_ns = np.concatenate([[begin_ns], times_ns[times_ns > begin_ns]])
    width = to_seconds(2 * half_ns)
    before, speed_before = motion.samples(times_ns - half_ns)
    after, speed_after = motion.samples(times_ns + half_ns)
    velocities = (after - before) / width
    velocities[-1] = 0.0
    accelerations = (speed_after - speed_before) / width
    lengths = np.diff(times_ns)[:, np.newaxis] / SECOND
    # summed up piece by piece: rounding of a difference of areas would be a jerk of its own
    moves = lengths * (velocities[1:] + velocities[:-1]) / 2.0
    moves -= lengths**2 * np.diff(accelerations, axis=0) / 12.0
    start = motion.positions[0] if is_from_rest else _mean(motion, begin_ns, half_ns)
    positions = start + np.vstack([np.zeros_like(start), np.cumsum(moves, axis=0)])
    apart = _apart(times_ns)
    return Motion(times_ns[apart], positions[apart], velocities[apart])


def _apart(times_ns: NDArray[np.int64]) -> list[int]:
    """Of moments, the first and the last, and between them those that are not too close."""
    kept = [0]
    for index, at_ns in enumerate((times_ns - CLOSEST_NS).tolist()):
        if at_ns >= times_ns[kept[-1]]:
            kept.append(index)
    last = len(times_ns) - 1
    return kept if kept[-1] == last else [*kept[:-1], last] if len(kept) > 1 else [0, last]


def _mean(motion: Motion, at_ns: int, half_ns: int) -> Joints:
    """The mean position around a moment."""
    first, last = at_ns - half_ns, at_ns + half_ns
    inside = motion.times_ns[(motion.times_ns > first) & (motion.times_ns < last)]
    times_ns = np.concatenate([[first], inside, [last]])
    positions, velocities = motion.samples(times_ns)
    lengths = np.diff(times_ns)[:, np.newaxis] / SECOND
    areas = lengths * (positions[1:] + positions[:-1]) / 2.0
    areas -= lengths**2 * np.diff(velocities, axis=0) / 12.0
    mean: Joints = areas.sum(axis=0) / to_seconds(2 * half_ns)
    return mean

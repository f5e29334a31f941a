"""How well the arm did what it was told. Pure."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

import numpy as np

from demo.run_data import Array, JointTrack, Trajectory
from sim_robot.trajectory_follower import Point, TrajectoryFollower, TrajectoryRejectedError
from sim_robot.trajectory_follower import Trajectory as ControllerTrajectory


def commanded_positions(
    trajectories: Sequence[Trajectory],
    joints: Sequence[str],
    track: JointTrack,
    placed: Sequence[float] = (),
) -> Array:
    """Return where the trajectories want the joints to be at the times of a track.

    What was sent is played again by a controller of our own, which starts where the track was when
    the first trajectory came: [samples, joints], NaN before that. It starts anew whenever the arm
    was put to another place.
    """
    commanded = np.full_like(track.positions, np.nan)
    borders = np.searchsorted(track.times, [-np.inf, *placed, np.inf])
    for first, last in itertools.pairwise(borders.tolist()):
        if first < last:
            begin = float(track.times[first]) if first else -np.inf
            end = float(track.times[last]) if last < len(track.times) else np.inf
            sent = [t for t in trajectories if begin <= t.received < end]
            part = JointTrack(track.times[first:last], track.positions[first:last])
            commanded[first:last] = _commanded_from_one_place(sent, joints, part)
    return commanded


def _commanded_from_one_place(
    trajectories: Sequence[Trajectory], joints: Sequence[str], track: JointTrack
) -> Array:
    commanded = np.full_like(track.positions, np.nan)
    if not trajectories:
        return commanded
    at_first = int(np.searchsorted(track.times, trajectories[0].received))
    start = track.positions[min(at_first, len(track.positions) - 1)]
    follower = TrajectoryFollower(joints, start.tolist())
    waiting = list(reversed(trajectories))
    for sample, time in enumerate(track.times):
        while waiting and waiting[-1].received <= time:
            trajectory = waiting.pop()
            # as the controller does: on a busy machine one may come when its end has passed
            with contextlib.suppress(TrajectoryRejectedError):
                follower.accept(_for_controller(trajectory, joints), trajectory.received)
        if time >= trajectories[0].received:
            commanded[sample] = follower.desired(time).positions
    return commanded


def rms_difference(a: Array, b: Array) -> Array:
    """Return the root mean square of a - b per joint, [joints]; NaN rows do not count."""
    difference = a - b
    known = ~np.isnan(difference).any(axis=1)
    if not known.any():
        return np.full(a.shape[1], np.nan)
    return np.asarray(np.sqrt(np.mean(difference[known] ** 2, axis=0)))


def at_times(track: JointTrack, times: Array) -> Array:
    """Return a track's positions at other times, interpolated: [len(times), joints]."""
    if not len(track.times):
        return np.full((len(times), track.positions.shape[1]), np.nan)
    columns = [
        np.interp(times, track.times, column, left=np.nan, right=np.nan)
        for column in track.positions.T
    ]
    return np.stack(columns, axis=1)


def travel(track: JointTrack, placed: Sequence[float] = ()) -> Array:
    """Return how far each joint has gone, back and forth added up: [joints], rad.

    That the arm was put to another place is no way that it has gone.
    """
    moves = np.abs(np.diff(track.positions, axis=0))
    arrivals = np.searchsorted(track.times, placed)
    put = arrivals[(arrivals > 0) & (arrivals < len(track.times))] - 1
    return np.asarray(np.delete(moves, put, axis=0).sum(axis=0))


def _for_controller(trajectory: Trajectory, joints: Sequence[str]) -> ControllerTrajectory:
    return ControllerTrajectory(
        joints,
        [
            Point(float(time), positions.tolist(), velocities.tolist())
            for time, positions, velocities in zip(
                trajectory.times_from_start,
                trajectory.positions,
                trajectory.velocities,
                strict=True,
            )
        ],
        trajectory.start,
    )

"""The simulated controller follows, replaces and rejects trajectories as ros2_control's does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sim_robot.trajectory_follower import (
    Point,
    Trajectory,
    TrajectoryFollower,
    TrajectoryRejectedError,
)

JOINTS = ("a", "b", "c")
angles = st.floats(-3, 3)
rows = st.tuples(angles, angles, angles)


@st.composite
def trajectories(draw, *, with_velocities=None, start=None):
    gaps = draw(st.lists(st.floats(0.01, 0.5), min_size=1, max_size=6))
    moving = draw(st.booleans()) if with_velocities is None else with_velocities
    times = np.cumsum(gaps)
    points = []
    for index, time in enumerate(times):
        last = index == len(times) - 1
        velocities = () if not moving else (0.0, 0.0, 0.0) if last else draw(rows)
        points.append(Point(float(time), draw(rows), velocities))
    return Trajectory(JOINTS, tuple(points), start)


def follower():
    return TrajectoryFollower(JOINTS, (0.1, -0.2, 0.3))


def line(*, start=None, names=JOINTS):
    """One second from (1, 2, 3) to (3, 2, 1), first point due after one second."""
    return Trajectory(names, (Point(1.0, (1, 2, 3)), Point(2.0, (3, 2, 1))), start)


def test_it_holds_where_it_was_put_until_a_trajectory_comes():
    desired = follower().desired(1e9)
    assert_allclose(desired.positions, [0.1, -0.2, 0.3])
    assert_allclose(desired.velocities, 0)


@given(trajectories(), st.floats(0, 1e6))
def test_it_is_at_each_point_when_the_point_is_due(trajectory, now):
    robot = follower()
    robot.accept(trajectory, now)
    for point in trajectory.points:
        # compare where both clocks are exact: now + t rounds at large now
        assert_allclose(
            robot.desired(now + point.time_from_start).positions, point.positions, atol=1e-6
        )


@given(trajectories(), st.floats(0, 5))
def test_it_holds_the_last_point_at_rest(trajectory, later):
    robot = follower()
    robot.accept(trajectory, 0.0)
    desired = robot.desired(robot.end + later)
    assert_allclose(desired.positions, trajectory.points[-1].positions)
    assert_allclose(desired.velocities, 0)


@given(trajectories(), trajectories(), st.floats(0, 1))
def test_a_replacement_starts_exactly_where_the_running_one_is(first, second, fraction):
    robot = follower()
    robot.accept(first, 0.0)
    switch = fraction * robot.end
    before = robot.desired(switch)
    robot.accept(second, switch)
    assert_allclose(robot.desired(switch).positions, before.positions, atol=1e-12)


@given(trajectories(with_velocities=True), trajectories(with_velocities=True), st.floats(0, 0.99))
def test_a_replacement_with_velocities_keeps_the_velocity(first, second, fraction):
    robot = follower()
    robot.accept(first, 0.0)
    switch = fraction * robot.end
    before = robot.desired(switch)
    robot.accept(second, switch)
    assert_allclose(robot.desired(switch).velocities, before.velocities, atol=1e-9)


@given(trajectories(), st.floats(0.001, 0.999))
def test_the_velocity_is_the_slope_of_the_position(trajectory, fraction):
    robot = follower()
    robot.accept(trajectory, 0.0)
    time, step = fraction * robot.end, 1e-6
    knots = [point.time_from_start for point in trajectory.points]
    if min(abs(time - knot) for knot in knots) < 2 * step:
        return  # at a corner of a linear one there is no slope
    slope = (robot.desired(time + step).positions - robot.desired(time - step).positions) / (
        2 * step
    )
    # a cubic over the shortest gap of 10 ms curves with at most 6 rad / (10 ms)^3
    assert_allclose(robot.desired(time).velocities, slope, rtol=1e-4, atol=1e-3)


@given(trajectories(with_velocities=False), st.floats(0, 1))
def test_positions_alone_never_overshoot(trajectory, fraction):
    robot = follower()
    robot.accept(trajectory, 0.0)
    corners = np.array([robot.desired(0.0).positions, *(p.positions for p in trajectory.points)])
    position = robot.desired(fraction * robot.end).positions
    assert np.all(position >= corners.min(axis=0) - 1e-9)
    assert np.all(position <= corners.max(axis=0) + 1e-9)


@given(trajectories(), st.permutations(range(3)), st.floats(0, 1))
def test_the_order_of_the_names_does_not_matter(trajectory, order, fraction):
    shuffled = Trajectory(
        [JOINTS[i] for i in order],
        [
            Point(
                p.time_from_start,
                [p.positions[i] for i in order],
                [p.velocities[i] for i in order] if p.velocities else (),
            )
            for p in trajectory.points
        ],
    )
    straight, permuted = follower(), follower()
    straight.accept(trajectory, 0.0)
    permuted.accept(shuffled, 0.0)
    time = fraction * straight.end
    assert_allclose(permuted.desired(time).positions, straight.desired(time).positions)


def test_velocities_make_the_way_between_two_points_a_cubic():
    robot = TrajectoryFollower(("a",), (0.0,))
    robot.accept(Trajectory(("a",), (Point(1.0, (1.0,), (0.0,)),)), 0.0)
    # from rest to rest: 3 s^2 - 2 s^3
    assert_allclose(robot.desired(0.25).positions, [3 / 16 - 2 / 64])
    assert_allclose(robot.desired(0.5).velocities, [1.5])


def test_a_point_without_velocities_is_reached_in_a_straight_line():
    robot = TrajectoryFollower(("a",), (0.0,))
    points = (Point(1.0, (1.0,)), Point(2.0, (0.0,), (0.0,)))
    robot.accept(Trajectory(("a",), points), 0.0)
    assert_allclose(robot.desired(0.25).positions, [0.25])
    assert_allclose(robot.desired(1.25).positions, [0.75])


def test_a_start_in_the_future_spends_the_time_on_the_way_to_the_first_point():
    robot = TrajectoryFollower(("a",), (0.0,))
    robot.accept(Trajectory(("a",), (Point(1.0, (1.0,)),), start=11.0), now=10.0)
    assert_allclose(robot.desired(11.0).positions, [0.5])
    assert_allclose(robot.desired(12.0).positions, [1.0])


def test_a_start_in_the_past_lands_in_the_middle_without_a_bridge():
    robot = follower()
    robot.accept(line(start=8.5), now=10.0)
    assert_allclose(robot.desired(10.0).positions, [2, 2, 2])
    assert_allclose(robot.desired(10.0).velocities, [2, 0, -2])


def test_an_end_that_is_exactly_now_is_taken():
    robot = follower()
    robot.accept(line(start=8.0), now=10.0)
    assert_allclose(robot.desired(10.0).positions, [3, 2, 1])


def test_a_new_trajectory_replaces_the_rest_of_the_old_one():
    robot = follower()
    robot.accept(line(), 0.0)
    robot.accept(Trajectory(JOINTS, (Point(0.5, (0, 0, 0)),)), 1.5)
    assert robot.end == 2.0
    assert_allclose(robot.desired(1.75).positions, [1, 1, 1])
    assert_allclose(robot.desired(99.0).positions, 0)


def points(*times, positions=(0.0, 0.0, 0.0), velocities=()):
    return tuple(Point(time, positions, velocities) for time in times)


@pytest.mark.parametrize(
    ("trajectory", "reason"),
    [
        (Trajectory(JOINTS, ()), "empty trajectory: it has no points"),
        (
            Trajectory(("a", "b", "elbow"), points(1)),
            "unknown joints ['elbow'], this controller has ['a', 'b', 'c']",
        ),
        (
            Trajectory(("a", "c"), (Point(1, (0, 0)),)),
            "joints ['b'] are missing from the trajectory",
        ),
        (
            Trajectory(("a", "b", "c", "a"), (Point(1, (0, 0, 0, 0)),)),
            "a joint is named twice in ['a', 'b', 'c', 'a']",
        ),
        (Trajectory(JOINTS, points(1, 1)), "point 1 is due at 1 s, not after point 0 at 1 s"),
        (Trajectory(JOINTS, points(2, 1)), "point 1 is due at 1 s, not after point 0 at 2 s"),
        (Trajectory(JOINTS, points(-1, 1)), "point 0 is due -1 s after the start: negative"),
        (
            Trajectory(JOINTS, points(1, positions=(0, math.nan, 0))),
            "point 0 holds a value that is not finite",
        ),
        (
            Trajectory(JOINTS, points(1, velocities=(0, 0, math.inf))),
            "point 0 holds a value that is not finite",
        ),
        (Trajectory(JOINTS, points(math.nan)), "point 0 holds a value that is not finite"),
        (Trajectory(JOINTS, points(1, positions=(0,))), "point 0 has 1 positions for 3 joints"),
        (
            Trajectory(JOINTS, points(1, velocities=(0, 0))),
            "point 0 has 2 velocities for 3 joints",
        ),
        (
            Trajectory(JOINTS, points(1, velocities=(0, 0.5, 0))),
            "velocity of the last point is not zero: [0, 0.5, 0]",
        ),
        (
            Trajectory(JOINTS, points(1, 2), start=97.0),
            "trajectory ends in the past, 1.000 s before now",
        ),
    ],
)
def test_a_trajectory_that_breaks_a_rule_is_rejected_and_the_running_one_goes_on(
    trajectory, reason
):
    robot = follower()
    robot.accept(line(), 99.0)
    with pytest.raises(TrajectoryRejectedError) as caught:
        robot.accept(trajectory, 100.0)
    assert str(caught.value) == reason
    assert_allclose(robot.desired(100.5).positions, [2, 2, 2])


def test_an_end_in_motion_is_stopped_dead_where_it_is_allowed():
    robot = TrajectoryFollower(("a",), (0.0,), allow_nonzero_velocity_at_end=True)
    robot.accept(Trajectory(("a",), (Point(1.0, (1.0,), (2.0,)),)), 0.0)
    assert_allclose(robot.desired(1.0 - 1e-9).velocities, [2.0], atol=1e-6)
    assert_allclose(robot.desired(1.0).velocities, [0.0])


def test_positions_must_match_the_joints():
    with pytest.raises(ValueError, match="2 joints but 1 positions"):
        TrajectoryFollower(("a", "b"), (0.0,))

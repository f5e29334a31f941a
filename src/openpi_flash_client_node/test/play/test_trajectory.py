"""trajectory.py: a plan as a joint trajectory controller wants it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openpi_flash_client_node.play.plan import Plan
from openpi_flash_client_node.play.trajectory import hold_trajectory, trajectory_of

MS = 1_000_000
STEP = 20 * MS


def plan_of(positions, *, start=0, gap=STEP):
    positions = np.asarray(positions, dtype=np.float64)
    times = start + np.arange(len(positions)) * gap
    return Plan(times, positions, STEP, int(times[0]), 0, 0, 1, 0)


def hermite(trajectory, anchor, share):
    """The cubic that a controller draws between two points, at a share of every segment."""
    times = np.concatenate([[0], trajectory.times_ns]) / 1e9
    path = np.vstack([anchor, trajectory.positions])
    speeds = np.vstack([np.zeros_like(anchor), trajectory.velocities])
    gaps = np.diff(times)[:, np.newaxis]
    s = share
    return (
        (2 * s**3 - 3 * s**2 + 1) * path[:-1]
        + (s**3 - 2 * s**2 + s) * gaps * speeds[:-1]
        + (-2 * s**3 + 3 * s**2) * path[1:]
        + (s**3 - s**2) * gaps * speeds[1:]
    )


def test_points_that_have_passed_or_are_less_than_a_step_ahead_are_dropped():
    plan = plan_of(np.arange(10)[:, np.newaxis])
    trajectory = trajectory_of(plan, now=45 * MS, columns=[0])
    # points are due at 0, 20, 40, 60, 80 ...; 45 + 20 ms is the earliest that is far enough
    np.testing.assert_array_equal(trajectory.times_ns[:2], [35 * MS, 55 * MS])
    np.testing.assert_array_equal(trajectory.positions[:2, 0], [4.0, 5.0])


def test_a_point_exactly_one_step_ahead_is_kept():
    trajectory = trajectory_of(plan_of(np.arange(5)[:, np.newaxis]), now=0, columns=[0])
    assert trajectory.times_ns[0] == STEP


def test_near_the_end_the_last_point_is_kept_a_step_ahead():
    trajectory = trajectory_of(plan_of([[0.0], [1.0], [2.0]]), now=35 * MS, columns=[0])
    assert trajectory.times_ns.tolist() == [STEP]
    assert trajectory.positions.tolist() == [[2.0]]
    assert trajectory.velocities.tolist() == [[0.0]]


def test_columns_choose_and_order_the_controllers_joints():
    trajectory = trajectory_of(plan_of([[0, 10, 20], [1, 11, 21]]), now=0, columns=[2, 0])
    assert trajectory.positions.tolist() == [[21.0, 1.0]]


def test_velocities_are_central_differences_and_the_last_is_zero():
    plan = plan_of([[0.0], [0.02], [0.06], [0.12]])
    velocities = trajectory_of(plan, now=0, columns=[0]).velocities[:, 0]
    np.testing.assert_allclose(velocities, [0.06 / 0.04, 0.10 / 0.04, 0.0])


def test_where_the_motion_turns_or_rests_the_velocity_is_zero():
    plan = plan_of([[0.0], [0.1], [0.0], [0.0], [0.1]])
    assert trajectory_of(plan, now=0, columns=[0]).velocities.tolist() == [[0.0]] * 4


def test_hold_is_one_point_at_rest():
    trajectory = hold_trajectory(np.array([0.1, -0.2]), 200 * MS)
    assert trajectory.times_ns.tolist() == [200 * MS]
    assert trajectory.positions.tolist() == [[0.1, -0.2]]
    assert trajectory.velocities.tolist() == [[0.0, 0.0]]


PATHS = hnp.arrays(np.float64, (12, 2), elements=st.floats(-1, 1))
PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


@PROPERTY
@given(path=PATHS, now=st.integers(0, 11 * STEP))
def test_what_a_controller_demands_holds_for_every_plan_and_moment(path, now):
    trajectory = trajectory_of(plan_of(path), now, columns=[0, 1])
    assert trajectory.times_ns[0] >= STEP
    assert np.all(np.diff(trajectory.times_ns) > 0)
    assert np.all(np.isfinite(trajectory.velocities))
    assert not trajectory.velocities[-1].any()
    assert trajectory.positions.shape == trajectory.velocities.shape
    np.testing.assert_array_equal(trajectory.positions[-1], path[-1])


@PROPERTY
@given(path=PATHS, share=st.floats(0, 1))
def test_the_cubic_between_two_points_never_leaves_their_range(path, share):
    plan = plan_of(path)
    trajectory = trajectory_of(plan, 0, columns=[0, 1])
    between = hermite(trajectory, plan.positions[0], share)
    knots = np.vstack([plan.positions[0], trajectory.positions])
    low, high = np.minimum(knots[:-1], knots[1:]), np.maximum(knots[:-1], knots[1:])
    assert np.all(between >= low - 1e-9)
    assert np.all(between <= high + 1e-9)


@pytest.mark.parametrize("now", [0, 10 * MS, 33 * MS])
def test_point_velocities_never_exceed_the_plans_own(now, rng):
    steps = np.clip(rng.normal(size=(40, 2)), -1, 1) * 0.02
    trajectory = trajectory_of(plan_of(np.cumsum(steps, axis=0)), now, columns=[0, 1])
    assert np.abs(trajectory.velocities).max() <= 1.0 + 1e-9

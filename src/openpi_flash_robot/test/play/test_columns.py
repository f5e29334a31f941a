"""columns.py: the policy's numbers as those of the axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_robot.play.columns import left_out, of_axes, of_policy, positions
from openpi_flash_robot.settings.action_meaning import ActionMeaning
from openpi_flash_robot.settings.axis_play import AxisPlay, Reading

MS = 1_000_000
STEP = 50 * MS
ANY = ActionMeaning("a", "position", "rad")


def axis(reading=Reading.ABSOLUTE, **more):
    return AxisPlay(ANY, reading, **more)


def test_each_column_is_read_by_its_own_meaning():
    axes = (
        axis(scale=2.0, offset=1.0),
        axis(Reading.FROM_OBSERVED),
        axis(Reading.PER_STEP, scale=0.05),
        axis(Reading.PER_SECOND),
    )
    found = of_axes(np.ones((2, 4)), axes, STEP, np.array([9.0, 0.5, 9.0, 9.0]), np.zeros(4))
    np.testing.assert_allclose(found, [[3.0, 1.5, 0.05, 0.05]] * 2)


def test_a_threshold_opens_wholly_or_closes_and_hides_no_nan():
    hand = axis(scale=-0.8, offset=0.8, threshold=0.4, closed=0.8, open=0.0, is_gripper=True)
    found = of_axes(np.array([[0.1], [0.9], [np.nan]]), (hand,), STEP, np.zeros(1), np.zeros(1))
    np.testing.assert_array_equal(found, [[0.8], [0.0], [np.nan]])


@given(st.floats(-3, 3), st.floats(0.01, 100), st.floats(-2, 2))
def test_the_way_back_is_exact(value, scale, offset):
    axes = (
        axis(scale=scale, offset=offset),
        axis(Reading.PER_SECOND, scale=scale),
        axis(Reading.PER_STEP, scale=scale),
    )
    actions = np.full((3, 3), value)
    there = of_axes(actions, axes, STEP, np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(of_policy(there, axes, STEP), actions, atol=1e-9)


def test_steps_of_a_rate_are_laid_end_to_end_through_where_the_axis_is_commanded():
    values = np.array([[0.1], [0.2], [0.3], [0.4]])
    at_start = positions(
        values, [True], start_ns=STEP, step_ns=STEP, begin_ns=0, begin=np.array([5.0])
    )
    np.testing.assert_allclose(at_start[:, 0], [5.1, 5.3, 5.6, 6.0])
    later = positions(
        values, [True], start_ns=STEP, step_ns=STEP, begin_ns=STEP * 3 // 2, begin=np.array([5.0])
    )
    np.testing.assert_allclose(later[:, 0], [4.9, 5.1, 5.4, 5.8])  # half of the second step is gone


def test_positions_are_left_as_they_are():
    values = np.array([[0.1, 0.5], [0.2, 0.5]])
    found = positions(
        values, [False, True], start_ns=0, step_ns=STEP, begin_ns=-STEP, begin=np.zeros(2)
    )
    np.testing.assert_array_equal(found[:, 0], [0.1, 0.2])
    np.testing.assert_allclose(found[:, 1], [0.5, 1.0])


@pytest.mark.parametrize("begin_ns", [-10 * STEP, 100 * STEP])
def test_a_chunk_that_takes_over_before_or_after_its_steps_is_laid_all_the_same(begin_ns):
    found = positions(
        np.ones((3, 1)), [True], start_ns=0, step_ns=STEP, begin_ns=begin_ns, begin=np.zeros(1)
    )
    np.testing.assert_allclose(np.diff(found[:, 0]), 1.0)


@pytest.mark.parametrize(
    ("numbers", "commanded", "expected"),
    [
        ([0.0, 1.0, 0.0, -1.0, 0.0], 0.02, [0.02, 0.0, 0.0, 0.04, 0.04]),
        ([0.0, 0.0], 0.0, [0.0, 0.0]),
        ([0.0, -0.2], float("nan"), [0.04, 0.04]),
    ],
)
def test_a_hand_that_is_told_to_stay_keeps_its_command_and_opens_only_if_it_never_had_one(
    numbers, commanded, expected
):
    hand = axis(
        scale=-0.02, offset=0.02, threshold=0.02, closed=0.0, open=0.04, stays_at=0.0,
        is_gripper=True,
    )  # fmt: skip
    found = of_axes(np.array([numbers]).T, (hand,), STEP, np.zeros(1), np.array([commanded]))
    np.testing.assert_allclose(found[:, 0], expected)


def test_axes_that_nobody_moves_stand_where_they_are_observed_and_rates_of_them_are_zero():
    values = np.ones((3, 4))
    found = left_out(
        values,
        np.array([True, False, True, False]),
        [False, False, True, True],
        np.array([0.7, 0.7, 0.7, 0.7]),
    )
    np.testing.assert_array_equal(found, [[0.7, 1.0, 0.0, 1.0]] * 3)

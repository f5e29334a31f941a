"""limits.py: what a command may ask of a joint."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openpi_flash_client_node.play.limits import LimitChain, PositionLimit, VelocityLimit

angles = hnp.arrays(np.float64, 3, elements=st.floats(-10, 10))
speeds = hnp.arrays(np.float64, 3, elements=st.floats(0.001, 5))


def test_a_step_within_the_velocity_limit_passes_untouched():
    desired = np.array([0.01, -0.02, 0.0])
    limited = VelocityLimit([1.0, 1.0, 1.0]).enforce(np.zeros(3), desired, 0.02)
    assert not limited.changed
    np.testing.assert_array_equal(limited.positions, desired)


def test_a_faster_step_is_cut_per_joint_and_says_so():
    limited = VelocityLimit([1.0, 2.0, 1.0]).enforce(np.zeros(3), np.array([1.0, -1.0, 0.05]), 0.1)
    assert limited.changed
    np.testing.assert_allclose(limited.positions, [0.1, -0.2, 0.05])


def test_a_position_outside_the_limits_is_clipped_and_says_so():
    limit = PositionLimit([-1.0, -1.0], [1.0, 1.0])
    limited = limit.enforce(np.zeros(2), np.array([1.5, -0.5]), 0.1)
    assert limited.changed
    np.testing.assert_array_equal(limited.positions, [1.0, -0.5])
    assert not limit.enforce(np.zeros(2), np.array([1.0, -1.0]), 0.1).changed


def test_infinite_position_limits_let_everything_pass():
    limit = PositionLimit([-np.inf], [np.inf])
    assert not limit.enforce(np.zeros(1), np.array([1e9]), 0.1).changed


@given(current=angles, desired=angles, speed=speeds, dt=st.floats(0.001, 1.0))
def test_no_joint_ever_moves_faster_than_its_limit_nor_past_its_goal(current, desired, speed, dt):
    positions = VelocityLimit(speed).enforce(current, desired, dt).positions
    assert np.all(np.abs(positions - current) <= speed * dt + 1e-9)
    assert np.all(np.abs(desired - positions) <= np.abs(desired - current) + 1e-9)


@given(desired=angles, speed=speeds)
def test_a_chain_from_inside_the_limits_stays_inside_both(desired, speed):
    chain = LimitChain([PositionLimit([-1.0] * 3, [1.0] * 3), VelocityLimit(speed)])
    current = np.zeros(3)
    for _ in range(5):
        following = chain.enforce(current, desired, 0.1).positions
        assert np.all(np.abs(following) <= 1.0)
        assert np.all(np.abs(following - current) <= speed * 0.1 + 1e-9)
        current = following


def test_a_chain_says_changed_if_any_limit_changed_something():
    chain = LimitChain([PositionLimit([-1.0], [1.0]), VelocityLimit([100.0])])
    assert chain.enforce(np.zeros(1), np.array([2.0]), 1.0).changed
    assert not chain.enforce(np.zeros(1), np.array([0.5]), 1.0).changed


def test_a_robot_outside_its_limits_is_brought_back_at_limited_speed():
    chain = LimitChain([PositionLimit([-1.0], [1.0]), VelocityLimit([1.0])])
    limited = chain.enforce(np.array([1.5]), np.array([3.0]), 0.1)
    assert limited.positions == pytest.approx([1.4])

"""motion.py: cubics between points, cut, joined and moved in time."""

import numpy as np
import pytest

from openpi_flash_robot.play.motion import Motion, rest

MS = 1_000_000
SWING = Motion(
    times_ns=np.array([100, 200, 400]) * MS,
    positions=np.array([[0.0, 1.0], [0.05, 1.0], [0.25, 0.5]]),
    velocities=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]),
)


def assert_same(one, other, begin, end):
    for at in range(begin, end + 1, 5 * MS):
        a, b = one.sample(at), other.sample(at)
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-9)
        np.testing.assert_allclose(a.velocities, b.velocities, atol=1e-6)


def test_before_it_begins_and_after_it_ends_it_rests():
    for at, positions in ((0, [0.0, 1.0]), (400 * MS, [0.25, 0.5]), (999 * MS, [0.25, 0.5])):
        state = SWING.sample(at)
        assert state.positions.tolist() == positions
        assert state.velocities.tolist() == [0.0, 0.0]


def test_between_points_it_is_the_cubic_of_their_positions_and_velocities():
    halfway = SWING.sample(150 * MS)
    # h00 p0 + h01 p1 + h (h10 v0 + h11 v1) at s = 1/2
    np.testing.assert_allclose(halfway.positions, [0.5 * 0.05 - 0.125 * 0.1 * 1.0, 1.0])
    np.testing.assert_allclose(halfway.velocities, [1.5 * 0.05 / 0.1 - 0.25 * 1.0, 0.0])


@pytest.mark.parametrize("motion", [SWING, rest(np.array([1.0, 2.0]), 100 * MS)])
def test_the_positions_at_several_moments_are_those_of_each(motion):
    at = np.array([0, 99, 100, 101, 150, 199, 200, 201, 399, 400, 401, 999]) * MS
    each = [motion.sample(moment).positions for moment in at.tolist()]
    np.testing.assert_allclose(motion.positions_at(at), each, atol=1e-12)
    assert motion.positions_at(at[:0]).shape == (0, 2)


def test_a_sample_is_a_copy():
    SWING.sample(0).positions[0] = 9.0
    assert SWING.positions[0, 0] == 0.0


@pytest.mark.parametrize("at", [50 * MS, 100 * MS, 130 * MS, 200 * MS, 390 * MS])
def test_what_is_left_of_a_motion_is_the_same_cubic_only_where_a_point_lies(at):
    left = SWING.since(at)
    assert left.start_ns == max(at, SWING.start_ns)
    here = SWING.sample(at)
    np.testing.assert_allclose(left.sample(at).positions, here.positions)
    assert_same(left, SWING, at, 500 * MS)


def test_of_a_motion_that_has_ended_its_last_position_is_left():
    left = SWING.since(800 * MS)
    assert left.times_ns.tolist() == [800 * MS]
    assert left.positions.tolist() == [[0.25, 0.5]]
    assert not left.velocities.any()


def test_a_tail_takes_over_where_it_begins():
    tail = SWING.since(250 * MS)
    joined = SWING.until(250 * MS, tail)
    assert np.all(np.diff(joined.times_ns) > 0)
    assert_same(joined, SWING, 0, 500 * MS)


def test_a_tail_that_begins_before_the_motion_is_all_there_is():
    tail = rest(np.array([0.0, 1.0]), 20 * MS)
    assert SWING.until(20 * MS, tail) is tail


def test_no_two_points_lie_so_close_that_the_cubic_between_them_is_noise():
    for at in (200 * MS - 1, 200 * MS, 200 * MS + 1):
        left = SWING.since(at)
        joined = SWING.until(at, left)
        for motion in (left, joined):
            assert np.all(np.diff(motion.times_ns) >= 20_000)
        assert_same(joined, SWING, 0, 500 * MS)


def test_moved_in_time_it_is_the_same():
    moved = SWING.shifted(-90 * MS)
    np.testing.assert_array_equal(moved.sample(60 * MS).positions, SWING.sample(150 * MS).positions)

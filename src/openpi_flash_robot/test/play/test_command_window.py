"""command_window.py: what a controller may play of a motion without this process."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_curves import MS, limits_of, play

from openpi_flash_robot.play.command_window import command_window, window_times
from openpi_flash_robot.play.follow import follow
from openpi_flash_robot.play.motion import MotionState, rest

PERIOD = 20 * MS
TIMES = window_times(300 * MS, 40 * MS, PERIOD)


def swing(limits, seed=0, steps=50):
    rng = np.random.default_rng(seed)
    joints = len(limits.velocity)
    points = np.cumsum(rng.normal(scale=0.02, size=(steps, joints)), axis=0)
    times = np.arange(1, steps + 1) * 40 * MS
    start = MotionState.at_rest(np.zeros(joints))
    return follow(start, 0, times, points, smoothing_ns=40 * MS, limits=limits)


def steady(speed=0.5):
    """Two seconds at one speed."""
    limits = limits_of(1, velocity=speed)
    points = np.arange(1, 51)[:, np.newaxis] * 0.04 * speed
    start = MotionState(np.zeros(1), np.array([speed]))
    times = np.arange(1, 51) * 40 * MS
    return follow(start, 0, times, points, smoothing_ns=40 * MS, limits=limits), limits


def test_without_another_window_an_arm_at_half_a_radian_a_second_stands_within_a_tenth():
    motion, limits = steady(0.5)
    now = 500 * MS
    window = command_window(motion, now, TIMES, limits)
    stand = window.positions[-1]
    assert stand[0] - motion.sample(now).positions[0] <= 0.1
    moving = [at for at in range(now, window.end_ns, MS) if window.sample(at).velocities.any()]
    assert moving[-1] - now <= 300 * MS


def test_it_follows_the_motion_for_longer_than_commands_may_take():
    for lead in (0, 40 * MS, 150 * MS):
        times = window_times(300 * MS, lead, PERIOD)
        assert times.followed_ns >= lead + 2 * PERIOD
        motion, limits = steady()
        window = command_window(motion, 500 * MS, times, limits)
        for at in range(500 * MS, 500 * MS + times.followed_ns, 7 * MS):
            np.testing.assert_allclose(
                window.sample(at).positions, motion.sample(at).positions, atol=1e-12
            )


def test_a_joint_that_cannot_brake_so_soon_brakes_longer():
    motion, _ = steady(0.5)
    slow = limits_of(1, velocity=0.5, acceleration=1.0)
    window = command_window(motion, 500 * MS, TIMES, slow)
    assert window.end_ns - 500 * MS == pytest.approx(TIMES.followed_ns + 500 * MS, abs=MS)


def test_a_motion_that_ends_soon_is_played_to_its_end_and_rests_for_the_rest_of_the_window():
    motion, limits = steady()
    now = motion.end_ns - 50 * MS
    window = command_window(motion, now, TIMES, limits)
    assert window.end_ns == now + TIMES.whole_ns
    np.testing.assert_array_equal(window.positions[-1], motion.positions[-1])


def test_before_a_motion_begins_the_window_begins_with_it():
    limits = limits_of(1)
    window = command_window(rest(np.array([0.3]), 100 * MS), 0, TIMES, limits)
    assert window.start_ns == 100 * MS
    assert window.end_ns > window.start_ns
    np.testing.assert_array_equal(window.positions, [[0.3], [0.3]])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), now=st.integers(0, 2_500))
def test_every_window_of_every_motion_keeps_to_the_limits_and_ends_at_rest(seed, now):
    limits = limits_of(3, velocity=0.5, acceleration=5.0)
    window = command_window(swing(limits, seed), now * MS, TIMES, limits)
    velocity, acceleration = play(window).shares_of(limits)
    assert velocity <= 1 + 1e-6
    assert acceleration <= 1 + 1e-6
    assert not window.velocities[-1].any()
    assert np.all(np.diff(window.times_ns) > 0)
    assert window.end_ns - window.start_ns >= TIMES.whole_ns - MS

"""Simulated time, the machine's time and ROS stamps belong together."""

from __future__ import annotations

import pytest

from sim_robot.sim_time import SimTime

SECOND = 1_000_000_000


def test_at_speed_one_a_stamp_is_the_systems_time():
    time = SimTime(1.0, steady=100.0, ros_nanoseconds=5 * SECOND)
    assert time.now(102.0, 7 * SECOND) == 2.0
    assert time.to_ros(2.0) == 7 * SECOND


def test_at_speed_one_stamps_follow_the_system_clock_where_it_is_adjusted():
    time = SimTime(1.0, steady=0.0, ros_nanoseconds=0)
    seconds = time.now(10.0, 12 * SECOND)  # the clock was put forward by two seconds
    assert seconds == 10.0
    assert time.to_ros(seconds) == 12 * SECOND


def test_the_noise_of_reading_two_clocks_moves_no_stamp():
    time = SimTime(1.0, steady=0.0, ros_nanoseconds=0)
    for noise in (3_000_000, -4_000_000):
        time.now(10.0, 10 * SECOND + noise)
        assert time.to_ros(10.0) == 10 * SECOND


def test_at_another_speed_time_runs_faster_from_the_same_start():
    time = SimTime(3.0, steady=100.0, ros_nanoseconds=5 * SECOND)
    seconds = time.now(102.0, 7 * SECOND)
    assert seconds == 6.0
    assert time.to_ros(seconds) == 11 * SECOND
    assert not time.is_wall_time


def test_a_stamp_and_a_second_convert_into_each_other():
    time = SimTime(1.0, steady=0.0, ros_nanoseconds=1_795_262_948 * SECOND)
    assert time.from_ros(time.to_ros(12.345)) == pytest.approx(12.345, abs=1e-9)


def test_a_speed_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="speed must be greater than 0, got 0"):
        SimTime(0, 0.0, 0)


def test_a_clock_that_has_waited_goes_on_from_there_and_the_wall_s_never_waits():
    time = SimTime(0.5, 100.0, 0)
    assert time.now(104.0, 0) == 2.0
    time.wait(0.5)
    assert time.now(104.0, 0) == 1.5
    assert time.now(106.0, 0) == 2.5
    with pytest.raises(ValueError, match="waits for nobody"):
        SimTime(1.0, 100.0, 0).wait(0.1)

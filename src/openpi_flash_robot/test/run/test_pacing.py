"""pacing.py: what a robot is told keeps to its limits, however late it is told."""

import numpy as np
import pytest
from played_curves import MS, limits_of

from openpi_flash_robot.play.follow import follow
from openpi_flash_robot.play.motion import MotionState
from openpi_flash_robot.run.pacing import Pacing

PERIOD = 20 * MS
LIMITS = limits_of(2, velocity=0.5, acceleration=5.0)
NO_RATES = np.array([False, False])


def swing():
    """A motion at full speed and back, within the limits."""
    times = np.arange(1, 101) * 40 * MS
    way = 0.45 * np.minimum(np.arange(1, 101), np.arange(100, 0, -1)) * 0.04
    points = np.stack([way, -way], axis=1)
    return follow(
        MotionState.at_rest(np.zeros(2)), 0, times, points, smoothing_ns=40 * MS, limits=LIMITS
    )


def told(moments, motion=None, rates=NO_RATES, limits=LIMITS):
    """The commands at some moments."""
    pacing = Pacing(limits, PERIOD, rates)
    motion = motion or swing()
    return [pacing.next(int(now), motion.sample(int(now))) for now in moments]


def shares(moments, commands):
    """The greatest mean velocity and acceleration between commands, as shares of the limits."""
    seconds = np.diff(np.asarray(moments)) / 1e9
    velocities = np.diff([c.positions for c in commands], axis=0) / seconds[:, np.newaxis]
    between = (seconds[1:] + seconds[:-1])[:, np.newaxis] / 2.0
    return np.abs(velocities).max() / 0.5, np.abs(np.diff(velocities, axis=0) / between).max() / 5.0


def test_a_motion_that_is_told_in_time_is_told_as_it_is():
    rng = np.random.default_rng(3)
    moments = np.arange(0, 4500 * MS, PERIOD) + rng.integers(0, 15 * MS, 225)
    motion = swing()
    for now, command in zip(moments, told(moments, motion), strict=True):
        assert np.array_equal(command.positions, motion.sample(int(now)).positions)
        assert np.array_equal(command.velocities, motion.sample(int(now)).velocities)


@pytest.mark.parametrize("pause_ms", [50, 70, 120, 300])
def test_after_a_pause_the_motion_is_caught_up_with_within_the_limits(pause_ms):
    before = np.arange(0, 1000 * MS, PERIOD)
    after = before[-1] + pause_ms * MS + np.arange(0, 5000 * MS, PERIOD)
    moments = np.concatenate([before, after])
    commands = told(moments)
    # between the two, the robot stood: what it is told then begins at rest
    late = np.array([after[0] - PERIOD, *after]) if pause_ms > 60 else moments
    heard = [commands[len(before) - 1], *commands[len(before) :]] if pause_ms > 60 else commands
    velocity, acceleration = shares(late, heard)
    assert velocity <= 1.0 + 1e-5
    assert acceleration <= 1.0 + 1e-3
    assert np.array_equal(commands[-1].positions, swing().sample(int(moments[-1])).positions)


def test_a_motion_that_jumps_is_followed_without_a_jump_and_without_overshooting():
    class Jump:
        def sample(self, now):
            return MotionState.at_rest(np.full(2, 0.3 if now > 500 * MS else 0.0))

    moments = np.arange(0, 2500 * MS, PERIOD)
    commands = told(moments, Jump())
    velocity, acceleration = shares(moments, commands)
    assert velocity <= 1.0 + 1e-5
    assert acceleration <= 1.0 + 1e-3
    positions = np.array([command.positions for command in commands])
    assert positions.max() <= 0.3 + 1e-9
    assert positions[-1] == pytest.approx(0.3, abs=1e-6)


def test_what_lies_beyond_the_position_limits_is_not_told():
    class Jump:
        def sample(self, now):
            return MotionState.at_rest(np.full(2, 0.5 if now else 0.0))

    commands = told(range(0, 4000 * MS, PERIOD), Jump(), limits=limits_of(2, upper=0.2))
    assert np.max([command.positions for command in commands]) == pytest.approx(0.2)


def test_a_rate_is_told_as_it_is_and_what_it_lost_is_not_caught_up():
    motion, rates = swing(), np.array([True, False])
    moments = [*range(0, 1000 * MS, PERIOD), *range(1200 * MS, 1500 * MS, PERIOD)]
    for now, command in zip(moments, told(moments, motion, rates), strict=True):
        assert command.velocities[0] == pytest.approx(motion.sample(now).velocities[0], abs=1e-6)


def test_a_rate_that_jumps_changes_no_faster_than_its_acceleration():
    class Jump:
        def sample(self, now):
            return MotionState(np.zeros(2), np.full(2, 0.5 if now else 0.0))

    commands = told(range(0, 400 * MS, PERIOD), Jump(), np.array([True, True]))
    velocities = np.array([command.velocities[0] for command in commands])
    assert np.diff(velocities).max() <= 5.0 * 0.02 * (1 + 1e-5) + 1e-5
    assert velocities[-1] == 0.5


def test_after_silence_the_next_motion_is_told_where_it_begins():
    pacing = Pacing(LIMITS, PERIOD, NO_RATES)
    pacing.next(0, MotionState.at_rest(np.zeros(2)))
    pacing.forget()
    elsewhere = MotionState.at_rest(np.ones(2))
    assert pacing.next(PERIOD, elsewhere) is elsewhere

"""commander.py: what controllers are told, how often, and what they do alone."""

import dataclasses

import numpy as np
import pytest
from played_curves import window_of

from openpi_flash_robot.bridge.commander import Commander
from openpi_flash_robot.play.follow import follow
from openpi_flash_robot.play.joint_limits import JointLimits, brake
from openpi_flash_robot.play.motion import MotionState
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

MS = 1_000_000
LIMITS = JointLimits(np.full(3, -2.0), np.full(3, 2.0), np.full(3, 0.5), np.full(3, 5.0))
POINTS = np.arange(1, 51)[:, np.newaxis] * [0.02, -0.02, 0.01]
MOTION = follow(
    MotionState.at_rest(np.zeros(3)),
    0,
    np.arange(1, 51) * 40 * MS,
    POINTS,
    smoothing_ns=40 * MS,
    limits=LIMITS,
)


@pytest.fixture
def commander(settings):
    return Commander(settings)


def command(commander, now, motion=MOTION, *, to_its_end=False):
    return commander.command(motion, now, LIMITS, to_its_end=to_its_end)


def test_each_controller_gets_a_window_for_its_own_joints_each_time(commander):
    for now in (100 * MS, 120 * MS):
        arm, hand = command(commander, now)
        assert (arm.controller.name, hand.controller.name) == ("arm", "hand")
        here = MOTION.sample(now)
        np.testing.assert_allclose(arm.trajectory.positions[0], here.positions[:2])
        np.testing.assert_allclose(hand.trajectory.velocities[0], here.velocities[2:])
        assert arm.trajectory.start_ns == now


def test_a_dry_run_and_no_motion_command_nothing(settings, parameters):
    assert command(Commander(settings), 0, None) == []
    dry = Commander(settings_from_parameters(parameters | {"dry_run": True}))
    assert command(dry, 0) == []
    assert not dry.commands
    assert dry.left_alone(10_000 * MS) is None


def test_after_the_end_controllers_are_told_once_more_and_then_left_in_peace(commander):
    command(commander, MOTION.end_ns - 10 * MS)
    last = window_of(command(commander, MOTION.end_ns + 10 * MS), 3)
    assert last.end_ns > MOTION.end_ns + 10 * MS
    np.testing.assert_array_equal(last.positions[-1], MOTION.positions[-1])
    assert commander.left_alone(MOTION.end_ns + 5_000 * MS) is None
    assert command(commander, MOTION.end_ns + 30 * MS) == []


def test_braking_is_sent_whole(commander):
    here = MOTION.sample(500 * MS)
    soft = dataclasses.replace(LIMITS, acceleration=np.full(3, 0.5))
    braking = brake(here, 500 * MS, 0, soft)
    window = window_of(command(commander, 500 * MS, braking, to_its_end=True), 3)
    assert window.end_ns == braking.end_ns
    np.testing.assert_array_equal(window.positions[-1], braking.positions[-1])
    assert commander.left_alone(5_000 * MS) is None


def test_controllers_that_were_left_alone_have_braked_where_their_window_ends(commander):
    window = window_of(command(commander, 500 * MS), 3)
    assert commander.left_alone(600 * MS) is None
    played, message = commander.left_alone(2_000 * MS)
    np.testing.assert_array_equal(played.positions[-1], window.positions[-1])
    assert message.startswith("nothing could be commanded for 1.50 s")
    commander.forget()
    assert commander.left_alone(2_000 * MS) is None


def test_points_may_count_from_reception(settings, replace):
    commander = Commander(replace(settings, stamp_trajectories=False))
    arm, _ = command(commander, 500 * MS)
    assert arm.trajectory.start_ns is None
    assert arm.trajectory.times_ns[0] >= 20 * MS

"""config/robots: each file drives a simulated robot, in virtual time, by its policy's contract."""

import numpy as np
import pytest
from robot_files import SERVED, settings_of
from virtual_robot import DT, VirtualRobot

from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.command_window import window_times
from openpi_flash_robot.settings.controllers import ControllerKind

EVERY_ROBOT = pytest.mark.parametrize("name", SERVED)
SECONDS = 20.0


@pytest.fixture(scope="module")
def drives():
    """What became of each robot, driven once."""
    return {}


@pytest.fixture
def driven(drives, name):
    if name not in drives:
        robot = VirtualRobot(name)
        robot.pass_time(0.5)
        begin = len(robot.statuses)
        robot.pass_time(SECONDS)
        robot.ran = robot.statuses[begin:]
        robot.driven = np.array(robot.commands)
        robot.bridge.hold(robot.now)
        robot._take_effects()
        robot.pass_time(1.0)
        robot.held = np.array(robot.commands)[len(robot.driven) :]
        drives[name] = robot
    return drives[name]


def test_what_the_policy_says_of_a_torso_that_nobody_moves_does_not_slow_the_arms():
    tracks = []
    for gain in (0.0, 40.0):
        robot = VirtualRobot("r1_lite")
        torso = [axis.startswith("torso") for axis in robot.settings.action_columns]
        columns = [robot.policy.spec.action_names.index(a) for a in robot.settings.action_columns]
        robot.model.gain = np.ones(robot.model.shape.action_dim)
        robot.model.gain[np.array(columns)[torso]] = gain
        robot.pass_time(4.0)
        tracks.append(np.array(robot.commands))
    np.testing.assert_allclose(tracks[0], tracks[1], atol=1e-9)
    assert np.ptp(tracks[0][:, 0], axis=0).max() > 0.1


def by_goals(robot):
    """Which axes are grippers that take goals, [N]."""
    hands = {c.joints[0] for c in robot.settings.controllers if c.kind is ControllerKind.GRIPPER}
    return np.array([axis in hands for axis in robot.settings.axes])


def moved(robot):
    return np.array(robot.settings.moved_axes)


@EVERY_ROBOT
def test_the_robot_runs_for_twenty_seconds_without_a_hold(name, driven):
    assert len(driven.ran) == SECONDS / DT / 2
    other = [status for status in driven.ran if status.condition.state is not State.RUNNING]
    assert not other, f"{len(other)} of {len(driven.ran)}, first {other[0].condition}"


@EVERY_ROBOT
def test_every_axis_that_a_controller_has_moves_and_no_other(name, driven):
    positions, velocities = driven.driven[:, 0], driven.driven[:, 1]
    moves = (np.ptp(positions, axis=0) > 1e-3) | (np.abs(velocities).max(axis=0) > 1e-3)
    np.testing.assert_array_equal(moves, moved(driven))


@EVERY_ROBOT
def test_commands_keep_to_the_limits_of_the_file(name, driven):
    player, streamed = driven.settings.player, moved(driven) & ~by_goals(driven)
    positions, velocities = driven.driven[:, 0], driven.driven[:, 1]
    lower, upper = np.array(player.position_lower), np.array(player.position_upper)
    assert (positions >= lower - 1e-6)[:, moved(driven)].all()
    assert (positions <= upper + 1e-6)[:, moved(driven)].all()
    speed = np.abs(velocities).max(axis=0) / player.max_velocity
    assert speed[streamed].max() <= 1.01, speed
    change = np.abs(np.diff(velocities, axis=0)).max(axis=0) / DT / player.max_acceleration
    assert change[streamed].max(initial=0.0) <= 1.05, change


@EVERY_ROBOT
def test_positions_go_as_their_velocities_say(name, driven):
    """A file that mixes up columns would move one axis by another's speed."""
    streamed = moved(driven) & ~by_goals(driven)
    positions, velocities = driven.driven[:, 0], driven.driven[:, 1]
    went = np.diff(positions, axis=0)[:, streamed]
    mean = (velocities[1:] + velocities[:-1])[:, streamed] / 2.0 * DT
    largest = np.array(driven.settings.player.max_acceleration)[streamed] * DT**2
    assert (np.abs(went - mean) <= largest + 1e-9).all()


@EVERY_ROBOT
def test_goals_of_grippers_come_on_change_only_and_at_most_five_a_second(name, driven):
    for goals in driven.goals.values():
        assert len(goals) >= 2, "the hand was never opened and closed"
        times, places = np.array(goals).T
        ends = [(hand.closed, hand.open) for hand in driven.settings.grippers]
        assert all(min(ends[0]) <= place <= max(ends[0]) for place in places)
        assert (np.diff(times) >= 0.2e9).all()
        assert (np.diff(places) != 0.0).all()


@EVERY_ROBOT
def test_a_robot_whose_node_is_gone_at_any_moment_stands_within_half_a_second(name):
    streamed, fastest = None, 0.0
    for lost_after in (1.5, 2.2, 3.1):
        robot = VirtualRobot(name)
        robot.pass_time(lost_after)
        streamed = moved(robot) & ~by_goals(robot)
        alone = len(robot.commands)
        fastest = max(fastest, np.abs(robot.commands[-1][1][streamed]).max())
        robot.lose_node(1.5)
        velocities = np.array(robot.commands)[alone:, 1][:, streamed]
        moving = np.flatnonzero(np.abs(velocities).max(axis=1) > 0.0)
        assert moving.max(initial=-1) * DT <= 0.5, f"lost after {lost_after} s"
    assert fastest > 0.0


@EVERY_ROBOT
def test_a_robot_at_full_speed_would_stand_within_half_a_second_too(name):
    settings = settings_of(name, dry_run=False)
    player = settings.player
    times = window_times(settings.command_window_ns, player.lead_ns, settings.control_period_ns)
    braking = np.array(player.max_velocity) / player.max_acceleration
    streamed = np.array(settings.moved_axes)
    longest = max(braking[streamed].max(), to_seconds(times.ramp_ns))
    assert to_seconds(times.followed_ns) + longest <= 0.5


@EVERY_ROBOT
def test_a_hold_brings_it_to_rest_and_keeps_the_grip(name, driven):
    begin, settled = round(0.6 / DT), driven.held[-1]
    positions, velocities = driven.held[begin:, 0], driven.held[begin:, 1]
    assert np.abs(velocities).max() == 0.0
    assert np.ptp(positions[:, ~by_goals(driven)], axis=0).max(initial=0.0) < 1e-9
    hands = by_goals(driven)
    goals = [goals[-1][1] for goals in driven.goals.values()]
    np.testing.assert_allclose(settled[0][hands], goals, atol=1e-6)

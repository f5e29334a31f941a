"""commander.py: what controllers are told, and how often."""

import numpy as np
import pytest

from openpi_flash_client_node.bridge.commander import Commander
from openpi_flash_client_node.play.plan import Plan

MS = 1_000_000
MEASURED = np.array([0.4, 0.5, 0.6])
PLAN = Plan(
    times_ns=np.array([0, 100, 200]) * MS,
    positions=np.array([[0.0, 0.0, 0.0], [0.1, 0.2, 0.3], [0.2, 0.4, 0.6]]),
    step_ns=100 * MS,
    start_ns=0,
    first_step=0,
    observation_ns=0,
    sequence=1,
    limited_steps=0,
)


@pytest.fixture
def commander(settings):
    return Commander(settings)


def targets(commands):
    """Where each controller ends, in the order of the robot's joints."""
    return np.concatenate([command.trajectory.positions[-1] for command in commands])


def test_each_controller_follows_the_plan_with_its_own_joints(commander):
    arm, hand = commander.follow(PLAN, now=0)
    assert (arm.controller.name, hand.controller.name) == ("arm", "hand")
    np.testing.assert_allclose(arm.trajectory.positions[-1], [0.2, 0.4])
    np.testing.assert_allclose(hand.trajectory.positions[-1], [0.6])
    assert commander.is_followed


def test_a_dry_run_commands_nothing_and_so_nothing_has_to_stay(settings, replace):
    commander = Commander(replace(settings, dry_run=True))
    assert commander.follow(PLAN, now=0) == []
    assert not commander.is_followed
    assert commander.stay(100 * MS, 100 * MS, MEASURED) == []


def test_in_the_middle_of_a_plan_each_controller_stays_where_it_is_measured_and_is_told_once(
    commander,
):
    commander.follow(PLAN, now=0)
    np.testing.assert_allclose(targets(commander.stay(100 * MS, 80 * MS, MEASURED)), MEASURED)
    assert not commander.is_followed
    assert commander.stay(120 * MS, 100 * MS, MEASURED) == []


@pytest.mark.parametrize(
    ("now", "latest_ns", "measured", "expected"),
    [
        (201 * MS, 180 * MS, MEASURED, [0.2, 0.4, 0.6]),
        (50 * MS, 40 * MS, np.full(3, np.nan), [0.05, 0.1, 0.15]),
        (0, 100 * MS, np.full(3, np.nan), [0.1, 0.2, 0.3]),
    ],
    ids=["plan has ended", "joints are silent", "clock was set back and joints are silent"],
)
def test_elsewhere_they_stay_where_the_plan_has_led_them(
    commander, now, latest_ns, measured, expected
):
    commander.follow(PLAN, now=0)
    np.testing.assert_allclose(targets(commander.stay(now, latest_ns, measured)), expected)

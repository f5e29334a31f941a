"""bridge.py: two causes at once, and what comes between a cause and its end."""

import dataclasses

import numpy as np
import pytest
from bridge_world import COST, MS, World, comes_to_rest, moving, still
from played_curves import Controller

from openpi_flash_robot.bridge.command_topic import CommandTopic
from openpi_flash_robot.bridge.effects import PublishTrajectory, SendRequest
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import FailureKind, LinkDown, RequestDone, RequestFailure
from openpi_flash_robot.play.motion import rest
from openpi_flash_robot.settings.node_settings import StopSettings

ESTOP = "/estop"
SHARED = CommandTopic("arm", "/arm/joint_trajectory", 1, ("/moveit",))


@pytest.fixture
def world(settings, replace):
    """A world with an emergency stop that is released, and quick joints that brake slowly."""
    player = replace(settings.player, max_velocity=(2.0,) * 3, max_acceleration=(4.0,) * 3)
    stops = StopSettings(emergency_stops=(ESTOP,))
    world = World(replace(settings, stops=stops, player=player))
    press(world, False)
    return world


def press(world, is_pressed):
    world.bridge.hear_stop(world.now, ESTOP, is_pressed)
    world.collect()


def fast(world):
    """The shoulder moves on from where it is, at a radian a second."""
    steps = np.arange(1, 51)[:, np.newaxis] * [0.04, 0.0, 0.0]
    return np.tile(world.measured, (50, 1)) + steps


def move(world):
    """Bring the arm to move, with a request in flight."""
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), fast(world))
    request = world.pass_time(2_000, until=SendRequest)
    while world.speed < 0.9:
        world.pass_time(20)
    return request


def reference(world):
    return world.controller.reference(world.now).positions


def give_up(world):
    """The request in flight is lost."""
    request = world.all(SendRequest)[-1].request_id
    world.event(RequestFailure(request, FailureKind.TIMEOUT, "no answer"))


def stand_by_command(world):
    """The reference of an arm away from zero whose chunk tells it to stay where it is."""
    world.controller = Controller([1.2, 0.2, 0.5])
    world.bridge.activate(world.now)
    world.up()
    here = np.tile(world.measured, (50, 1))
    world.answer(world.pass_time(100, until=SendRequest), here)
    world.pass_time(200)
    return reference(world)


def test_one_wrong_joint_state_moves_nothing_and_stops_nothing(world):
    stood = stand_by_command(world)
    world.bridge.add_joints(world.now - MS // 2, ("shoulder", "elbow", "gripper"), [0.0, 0.0, 0.0])
    world.bridge.tick(world.now)
    world.collect()
    world.pass_time(400)
    np.testing.assert_allclose(reference(world), stood, atol=1e-6)
    assert world.status.cause is not Cause.TRACKING


def test_joint_states_that_stay_wrong_stop_the_robot_and_lead_it_nowhere(world):
    stood = stand_by_command(world)
    world.stuck_at = [0.0, 0.0, 0.0]  # the driver was started again
    world.pass_time(3_000)
    assert world.status.cause is Cause.TRACKING
    np.testing.assert_allclose(reference(world), stood, atol=1e-6)


@pytest.mark.parametrize("stop", ["estop", "hold", "pause", "deactivate"])
def test_whatever_stops_the_robot_stops_a_command_that_is_led_back_too(world, stop):
    move(world)
    world.stuck_at = world.measured
    while not (world.status.cause is Cause.TRACKING and world.speed == 0.0):
        world.pass_time(20)
    while world.speed < 0.1:  # the command is led back
        world.pass_time(20)
        assert world.now < 60_000 * MS
    {
        "estop": lambda: press(world, True),
        "hold": lambda: world.bridge.hold(world.now),
        "pause": lambda: world.bridge.pause(world.now, True),
        "deactivate": lambda: world.bridge.deactivate(world.now),
    }[stop]()
    world.collect()
    world.pass_time(40 + 20)
    fastest = world.speed
    world.pass_time(100)
    assert world.speed < fastest


def test_an_arm_whose_power_is_cut_by_the_emergency_stop_is_not_pulled_when_it_is_released(world):
    move(world)
    world.stuck_at = world.measured
    press(world, True)
    world.pass_time(3_000)
    np.testing.assert_allclose(reference(world), world.stuck_at, atol=0.01)
    press(world, False)
    world.stuck_at = None
    assert comes_to_rest(world)
    assert not world.status.condition.resumes_by_itself


def test_activation_commands_nothing_before_a_chunk(world):
    move(world)
    world.bridge.deactivate(world.now)
    world.collect()
    world.pass_time(20)
    world.bridge.reset(world.now)
    world.event(LinkDown("lost"))
    world.pass_time(2_000)
    moved = reference(world) - np.array([1.0, 0.0, 0.0])
    world.controller.motion = rest(moved, world.now)  # by somebody else
    world.pass_time(20)
    sent = len(world.all(PublishTrajectory))
    world.bridge.activate(world.now)
    world.pass_time(200)
    assert len(world.all(PublishTrajectory)) == sent
    np.testing.assert_array_equal(reference(world), moved)


@pytest.mark.parametrize("cause", ["link", "timeout", "pause"])
def test_an_emergency_stop_while_the_arm_brakes_waits_for_a_person_too(world, cause):
    move(world)
    if cause == "link":
        world.event(LinkDown("lost"))
        world.up()
    elif cause == "timeout":
        give_up(world)
    else:
        world.bridge.pause(world.now, True)
        world.bridge.pause(world.now, False)
        world.collect()
    world.pass_time(40)
    assert world.speed > 0.3
    press(world, True)
    world.pass_time(1_000)
    press(world, False)
    world.pass_time(100)
    assert world.status.cause is Cause.EMERGENCY_STOP
    assert not world.status.condition.resumes_by_itself
    world.bridge.reset(world.now)
    assert world.status.condition.resumes_by_itself


@pytest.mark.parametrize("stop", ["estop", "commander", "blind"])
def test_an_answer_in_flight_does_not_start_a_robot_that_must_not_move(world, stop):
    move(world)
    world.event(LinkDown("lost"))
    world.up()
    request = world.pass_time(2_000, until=SendRequest)
    world.pass_time(600)
    if stop == "estop":
        press(world, True)
    elif stop == "commander":
        world.bridge.command_topics(world.now, [SHARED])
    else:
        world.silent = {"scene"}
        world.pass_time(600)
    stood, sent = reference(world), len(world.all(PublishTrajectory))
    world.event(RequestDone(request.request_id, {"actions": fast(world)}, 0.003, 0.04, COST))
    world.pass_time(200)
    assert world.status.state is State.HOLDING
    assert len(world.all(PublishTrajectory)) == sent
    np.testing.assert_array_equal(reference(world), stood)
    if stop == "estop":  # the robot stood when it was pressed
        press(world, False)
        assert world.status.condition.resumes_by_itself


def test_after_another_commander_the_arm_is_met_where_it_is(world):
    world.run()
    world.bridge.command_topics(world.now, [SHARED])
    world.collect()
    world.pass_time(1_000)
    moved = reference(world) + np.array([0.07, 0.07, 0.0])
    world.controller.motion = rest(moved, world.now)
    world.pass_time(1_000)
    give_up(world)
    world.bridge.command_topics(world.now, [])
    world.answer(world.pass_time(2_000, until=SendRequest), np.tile(moved, (50, 1)))
    assert world.status.state is State.RUNNING
    path = [world.controller.reference(world.now + at * MS).positions for at in range(-20, 200)]
    assert np.abs(np.diff(path, axis=0)).max() / 1e-3 < 0.1


def test_a_gripper_keeps_its_grip_through_an_arm_that_does_not_follow(settings, replace):
    player = replace(settings.player, max_tracking_error=(0.08, 0.08, 0.0))
    world = World(replace(settings, player=player))
    world.run()
    actions = moving()
    actions[:, 2] = np.minimum(0.5 + 0.04 * np.arange(50), 0.9)
    world.answer(world.pass_time(2_000, until=SendRequest), actions)
    world.pass_time(400)
    grip, here = world.measured[2], world.measured
    world.stuck_at = [here[0], here[1], 0.5]  # the arm is blocked, and the hand holds something
    world.pass_time(3_000)
    assert world.status.cause is Cause.TRACKING
    assert reference(world)[2] >= grip - 1e-6


def test_a_hold_or_pause_before_activation_lasts(world):
    for order in (
        lambda: world.bridge.hold(world.now),
        lambda: world.bridge.pause(world.now, True),
    ):
        order()
        world.bridge.activate(world.now)
        world.up()
        assert world.pass_time(200, until=SendRequest) is None
        world.bridge.deactivate(world.now)
        world.collect()
    world.bridge.activate(world.now)
    assert world.pass_time(200, until=SendRequest) is not None


def test_a_reset_does_not_end_an_emergency_stop_that_is_still_pressed(world):
    move(world)
    press(world, True)
    assert world.bridge.reset(world.now).message == "emergency stop /estop is pressed"
    world.collect()
    world.pass_time(500)
    press(world, False)
    assert not world.status.condition.resumes_by_itself
    assert world.bridge.reset(world.now) is None
    assert world.status.condition.resumes_by_itself


def test_a_server_that_fits_now_is_not_shown_as_one_that_does_not(world):
    world.bridge.activate(world.now)
    world.up(action_dim=7, action_names=None)
    assert world.status.state is State.FAULT
    world.up()
    assert world.status.cause is Cause.WAITING


@pytest.mark.parametrize("change", ["position", "velocity"])
def test_limits_that_become_narrower_are_kept_at_once(world, settings, change):
    move(world)
    here = reference(world)[0]
    player = world.bridge._settings.player
    narrow = (
        {"position_upper": (here + 0.6, 2.0, 1.0), "max_acceleration": (0.5,) * 3}
        if change == "position"
        else {"max_velocity": (0.1,) * 3}
    )
    world.bridge.update_settings(
        dataclasses.replace(world.bridge._settings, player=dataclasses.replace(player, **narrow))
    )
    world.pass_time(500)
    assert world.speed == 0.0
    assert reference(world)[0] <= here + 0.6
    world.answer(world.all(SendRequest)[-1], fast(world))
    for _ in range(100):
        world.pass_time(20)
        assert reference(world)[0] <= here + 0.6 + 1e-9 or change == "velocity"
        assert world.speed <= 0.1 + 1e-6 or change == "position"


def test_what_moves_nothing_is_commanded_to_nobody(world):
    assert still().shape == (50, 3)
    world.bridge.activate(world.now)
    world.up()
    world.pass_time(400)
    assert world.all(PublishTrajectory) == []

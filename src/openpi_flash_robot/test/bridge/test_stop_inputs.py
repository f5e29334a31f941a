"""stop_inputs.py: what was not heard, or is not heard any more, stops the robot."""

import dataclasses

import pytest
from bridge_world import MS, World, comes_to_rest, moving

from openpi_flash_robot.bridge.effects import PublishTrajectory, SendRequest
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.bridge.stop_inputs import StopInputs
from openpi_flash_robot.settings.node_settings import StopSettings

ESTOP, ENABLE, HOLD = "/estop", "/enable", "/hold"
SETTINGS = StopSettings((ESTOP,), ENABLE, HOLD, 500 * MS)


@pytest.fixture
def stops():
    return StopInputs(SETTINGS)


def release_all(stops, now):
    stops.hear(now, ESTOP, False)
    stops.hear(now, ENABLE, True)


def test_without_topics_nothing_stops_the_robot():
    assert StopInputs(StopSettings()).problem(0) is None


def test_a_stop_that_was_not_heard_counts_as_pressed(stops):
    message = stops.problem(0).message
    assert message == "emergency stop /estop was not heard yet, and counts as if it is pressed"
    stops.hear(0, ESTOP, False)
    assert stops.problem(0).message == (
        "the switch on /enable that enables was not heard yet, and counts as if it is not pressed"
    )


def test_released_and_enabled_it_may_move_until_one_falls_silent(stops):
    release_all(stops, 0)
    assert stops.problem(500 * MS) is None
    stops.hear(500 * MS, ENABLE, True)
    assert stops.problem(501 * MS).message == (
        "emergency stop /estop is silent for 0.50 s, stop_timeout is 0.50 s, and counts as if it "
        "is pressed"
    )
    stops.hear(900 * MS, ESTOP, False)
    assert stops.problem(1_001 * MS).message.startswith("the switch on /enable that enables is s")


def test_pressed_and_not_enabled_are_named(stops):
    release_all(stops, 0)
    stops.hear(0, ENABLE, False)
    assert stops.problem(0).message == "the switch on /enable that enables is not pressed"
    stops.hear(0, ESTOP, True)
    assert stops.problem(0).message == "emergency stop /estop is pressed"


def test_a_hold_switch_holds_while_it_is_true_and_may_be_silent(stops):
    release_all(stops, 0)
    stops.hear(0, HOLD, True)
    assert stops.problem(0).message == "held by /hold"
    stops.hear(0, HOLD, False)
    assert stops.problem(0) is None


def test_latched_topics_may_be_silent_for_ever():
    stops = StopInputs(dataclasses.replace(SETTINGS, timeout_ns=0))
    assert stops.problem(0) is not None
    release_all(stops, 0)
    assert stops.problem(3_600_000 * MS) is None


def test_a_clock_that_jumps_is_silence_too(stops):
    release_all(stops, 10_000 * MS)
    assert stops.problem(9_000 * MS) is not None


@pytest.fixture
def world(settings, replace):
    """A world in which somebody holds the enabling switch."""
    world = World(replace(settings, stops=dataclasses.replace(SETTINGS, hold="")))
    world.switches = {ESTOP: False, ENABLE: True}
    before = world.bridge.tick

    def tick(now):
        for topic, value in world.switches.items():
            world.bridge.hear_stop(now, topic, value)
        before(now)

    world.bridge.tick = tick
    world.bridge.activate(world.now)
    world.up()
    world.answer(world.pass_time(100, until=SendRequest))
    world.answer(world.pass_time(2_000, until=SendRequest), moving())
    world.pass_time(2_000, until=SendRequest)
    assert world.speed > 0.1
    return world


def last_request(world):
    return world.all(SendRequest)[-1]


def test_an_emergency_stop_brakes_and_waits_for_a_person(world):
    world.switches[ESTOP] = True
    assert comes_to_rest(world, within_ms=300)
    assert (world.status.state, world.status.message) == (
        State.HOLDING,
        "emergency stop /estop is pressed",
    )
    world.switches[ESTOP] = False
    world.pass_time(100)
    assert world.status.message == (
        "emergency stop /estop is pressed: it has stopped the robot; look at it, then call ~/reset"
    )
    sent = len(world.all(PublishTrajectory))
    world.answer(last_request(world))
    assert len(world.all(PublishTrajectory)) == sent
    world.bridge.reset(world.now)
    world.answer(world.pass_time(1_000, until=SendRequest))
    assert world.status.state is State.RUNNING


@pytest.mark.parametrize("switch", [ESTOP, ENABLE])
def test_a_switch_that_falls_silent_stops_the_robot_within_its_timeout(world, switch):
    silent_since = world.now
    del world.switches[switch]
    while world.status.state is State.RUNNING:
        world.pass_time(20)
    assert world.now - silent_since <= 540 * MS
    assert comes_to_rest(world)


def test_letting_go_of_the_enabling_switch_holds_and_pressing_it_goes_on(world):
    world.switches[ENABLE] = False
    assert comes_to_rest(world, within_ms=300)
    world.answer(last_request(world))
    assert world.status.message == "the switch on /enable that enables is not pressed"
    world.switches[ENABLE] = True
    world.answer(world.pass_time(1_000, until=SendRequest))
    assert world.status.state is State.RUNNING

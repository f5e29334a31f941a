"""bridge.py: whatever stops the robot, how it holds, and how it goes on."""

import math

import numpy as np
import pytest
from bridge_world import COST, MEASURED, MS, PERIOD, holds, of, still

from openpi_flash_client_node.bridge.effects import PublishChunk, PublishTrajectory, SendRequest
from openpi_flash_client_node.bridge.status import State
from openpi_flash_client_node.link.events import FailureKind, LinkDown, RequestDone, RequestFailure

CAUSES = {
    "a lost link": (
        lambda w: w.event(LinkDown("connection lost")),
        State.DISCONNECTED,
        "connection lost",
    ),
    "a timeout": (
        lambda w: w.event(RequestFailure(w.in_flight, FailureKind.TIMEOUT, "no answer within 1 s")),
        State.HOLDING,
        "no answer within 1 s",
    ),
    "a refusal": (
        lambda w: w.event(
            RequestFailure(w.in_flight, FailureKind.SERVER, "bad_request: state is missing")
        ),
        State.HOLDING,
        "bad_request: state is missing",
    ),
    "an image that cannot be decoded": (
        lambda w: w.event(RequestFailure(w.in_flight, FailureKind.PREPARE, "camera scene: 16UC1")),
        State.HOLDING,
        "camera scene: 16UC1",
    ),
    "a chunk of the wrong shape": (
        lambda w: w.event(RequestDone(w.in_flight, {"actions": np.zeros((50, 4))}, 0.0, 0.1, COST)),
        State.HOLDING,
        "the actions have shape [50, 4], expected [50, 3]",
    ),
    "a chunk with NaN": (
        lambda w: w.event(
            RequestDone(w.in_flight, {"actions": still() * math.nan}, 0.0, 0.1, COST)
        ),
        State.HOLDING,
        "chunk 2 is not finite: step 0 of shoulder is nan",
    ),
    "no actions": (
        lambda w: w.event(RequestDone(w.in_flight, {"subtask": {}}, 0.0, 0.1, COST)),
        State.HOLDING,
        "the answer has no actions, only subtask",
    ),
    "pause": (
        lambda w: (w.bridge.pause(w.now, True), w.collect())[1],
        State.PAUSED,
        "paused by ~/pause",
    ),
    "hold": (
        lambda w: (w.bridge.hold(w.now), w.collect())[1],
        State.HOLDING,
        "held by ~/hold; call ~/reset to go on",
    ),
    "reset": (
        lambda w: (w.bridge.reset(w.now), w.collect())[1],
        State.HOLDING,
        "reset; waiting for the first chunk",
    ),
    "deactivation": (
        lambda w: (w.bridge.deactivate(w.now), w.collect())[1],
        State.PAUSED,
        "not active",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_whatever_stops_the_robot_sends_one_hold_command_to_each_controller(world, cause):
    stop, state, message = CAUSES[cause]
    world.run()
    world.in_flight = world.pass_time(2_000, until=SendRequest).request_id
    world.measured = [0.11, 0.21, 0.51]
    world.pass_time(20)
    arm, hand = holds(stop(world))
    np.testing.assert_allclose(arm.trajectory.positions[0], [0.11, 0.21])
    np.testing.assert_allclose(hand.trajectory.positions[0], [0.51])
    assert (world.status.state, world.status.message) == (state, message)
    before = len(world.all(PublishTrajectory))
    world.bridge.tick(world.now)
    world.collect()
    assert len(world.all(PublishTrajectory)) == before


def test_a_late_answer_holds_within_one_period_of_the_deadline(world):
    request = world.run()
    deadline = request.observation.oldest_ns + 1_000 * MS  # half of 50 steps of 40 ms
    stopped = None
    while stopped is None:
        world.pass_time(20)
        if world.status.state is State.HOLDING:
            stopped = world.now
    assert deadline - 40 * MS < stopped <= deadline + PERIOD
    assert len(holds(world.effects[-2:])) == 2
    assert world.status.message.startswith("no newer chunk: the observation of chunk 1 is")


def test_at_the_end_of_a_plan_it_stays_where_the_plan_has_led_it(world):
    world.run()
    actions = still() + np.linspace(0, 0.4, 50)[:, np.newaxis] * [1, 0, 0]
    world.answer(world.pass_time(2_000, until=SendRequest), actions)
    world.effects.clear()
    world.pass_time(3_000)
    arm, _ = holds(world.effects)
    assert arm.trajectory.positions[0, 0] > MEASURED[0] + 0.15


@pytest.mark.parametrize("cause", [c for c in CAUSES if c not in ("pause", "hold", "deactivation")])
def test_when_the_cause_is_gone_it_goes_on_by_itself(world, cause):
    world.run()
    world.in_flight = world.pass_time(2_000, until=SendRequest).request_id
    CAUSES[cause][0](world)
    if cause == "a lost link":
        world.pass_time(500)
        assert world.status.state is State.DISCONNECTED
        world.up()
        assert world.status.message == "waiting for the first chunk"
    if cause == "reset":
        world.event(RequestDone(world.in_flight, {"actions": still()}, 0.0, 0.1, COST))
        assert world.status.state is State.HOLDING
    request = world.pass_time(400, until=SendRequest)
    effects = world.answer(request)
    assert world.status.state is State.RUNNING
    (chunk,) = of(effects, PublishChunk)
    assert chunk.sequence == 2
    assert chunk.first_step == 0


def test_a_pause_lasts_until_it_is_ended(world):
    world.run()
    world.bridge.pause(world.now, True)
    world.bridge.reset(world.now)
    world.collect()
    assert world.pass_time(3_000, until=SendRequest) is None
    world.bridge.pause(world.now, False)
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_hold_lasts_until_a_reset_and_nothing_else_ends_it(world):
    world.run()
    world.bridge.hold(world.now)
    world.bridge.pause(world.now, True)
    world.bridge.pause(world.now, False)
    world.bridge.set_prompt(world.now, "go on", reset=True)
    world.collect()
    assert world.pass_time(3_000, until=SendRequest) is None
    assert world.status.message == "held by ~/hold; call ~/reset to go on"
    world.bridge.reset(world.now)
    assert world.pass_time(100, until=SendRequest) is not None


def test_going_on_while_nothing_is_paused_does_not_stop_the_robot(world):
    world.run()
    world.bridge.pause(world.now, False)
    assert world.status.state is State.RUNNING


def test_an_answer_that_comes_after_pause_goes_by(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.bridge.pause(world.now, True)
    world.bridge.pause(world.now, False)
    effects = world.answer(request)
    assert of(effects, PublishChunk) == []


def test_where_the_joints_are_silent_too_it_holds_where_it_was_commanded(world):
    world.run()
    actions = still() + np.linspace(0, 0.4, 50)[:, np.newaxis] * [1, 0, 0]
    world.answer(world.pass_time(2_000, until=SendRequest), actions)
    world.silent = {"joints"}
    world.pass_time(400)
    arm, _ = holds(world.event(LinkDown("gone")))
    assert arm.trajectory.positions[0, 0] > 0.15


def test_nothing_is_commanded_by_a_hold_before_anything_was_commanded(world):
    world.bridge.activate(world.now)
    world.up()
    world.bridge.hold(world.now)
    assert world.collect(PublishTrajectory) == []


def test_a_clock_that_is_set_back_is_a_hold_and_then_it_goes_on_in_the_new_time(world):
    world.run()
    world.now = 0
    world.pass_time(20)
    assert world.status.message.startswith("the clock was set back by 1.0")
    assert len(holds(world.all(PublishTrajectory)[-2:])) == 2
    world.answer(world.all(SendRequest)[-1])
    assert world.status.state is State.RUNNING


def test_where_a_clock_set_back_hides_the_joints_it_holds_where_it_was_commanded_last(world):
    world.run()
    actions = still() + np.linspace(0, 0.4, 50)[:, np.newaxis] * [1, 0, 0]
    world.answer(world.pass_time(2_000, until=SendRequest), actions)
    world.pass_time(300)
    before = world.bridge._player.plan.sample(world.now)
    world.silent = {"joints"}
    world.now -= 500 * MS
    world.bridge.tick(world.now)
    arm, _ = holds(world.collect())
    np.testing.assert_allclose(arm.trajectory.positions[0], before[:2])

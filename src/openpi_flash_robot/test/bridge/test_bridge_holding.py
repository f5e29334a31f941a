"""bridge.py: whatever stops the robot, how it holds, and how it goes on."""

import dataclasses
import math

import numpy as np
import pytest
from bridge_world import COST, MEASURED, MS, PERIOD, comes_to_rest, moving, of, still
from played_curves import Controller

from openpi_flash_robot.bridge.command_topic import CommandTopic
from openpi_flash_robot.bridge.effects import PublishChunk, PublishTrajectory, SendRequest
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import FailureKind, LinkDown, RequestDone, RequestFailure

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
        "chunk 3 is not finite: step 0 of shoulder is nan",
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


def moving_world(world):
    """A world whose arm moves, with a request in flight."""
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), moving())
    world.in_flight = world.pass_time(2_000, until=SendRequest).request_id
    assert world.speed > 0.1
    return world


@pytest.mark.parametrize("cause", CAUSES)
def test_whatever_stops_the_robot_brakes_along_the_plan_until_it_stands(world, cause):
    stop, state, message = CAUSES[cause]
    before = moving_world(world).controller.reference(world.now).positions
    arm, hand = of(stop(world), PublishTrajectory)[-2:]
    assert (arm.controller.name, hand.controller.name) == ("arm", "hand")
    assert (world.status.state, world.status.message) == (state, message)
    world.silent = {"scene", "wrist"}  # no request, and so no chunk, follows
    assert comes_to_rest(world, within_ms=200)
    gone = world.controller.reference(world.now).positions - before
    assert 0 <= gone[0] < 0.05
    np.testing.assert_allclose(gone[1:], 0.0, atol=1e-9)


def test_a_late_answer_holds_within_one_period_of_the_deadline(world):
    request = world.run()
    deadline = request.observation.oldest_ns + 1_000 * MS  # half of 50 steps of 40 ms
    stopped = None
    while stopped is None:
        world.pass_time(20)
        if world.status.state is State.HOLDING:
            stopped = world.now
    assert deadline - 40 * MS < stopped <= deadline + PERIOD
    assert world.status.message.startswith("no newer chunk: the observation of chunk 1 is")
    assert comes_to_rest(world)


def test_at_the_end_of_a_plan_it_stays_where_the_plan_has_led_it(world):
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), moving())
    world.pass_time(3_000)
    assert comes_to_rest(world)
    assert world.controller.reference(world.now).positions[0] > MEASURED[0] + 0.15


@pytest.mark.parametrize("cause", CAUSES)
def test_the_status_says_whether_the_robot_waits_for_a_persons_word(world, cause):
    CAUSES[cause][0](moving_world(world))
    waits = cause in ("pause", "hold", "deactivation")
    assert world.status.condition.resumes_by_itself is not waits


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


@pytest.mark.parametrize("sense", ["scene", "joints"])
def test_it_does_not_move_blindly_for_longer_than_max_blind_time(world, sense):
    moving_world(world)
    silent_since = world.now
    world.silent = {sense}
    while world.status.state is State.RUNNING:
        world.pass_time(20)
    blind = world.now - silent_since
    assert 480 * MS <= blind <= 500 * MS + 2 * PERIOD
    assert "is silent" in world.status.message or "stale" in world.status.message
    assert comes_to_rest(world)
    world.silent = set()
    world.event(RequestFailure(world.in_flight, FailureKind.TIMEOUT, "no answer"))
    world.answer(world.pass_time(400, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_an_arm_that_does_not_follow_is_stopped_until_a_person_says_otherwise(world):
    moving_world(world)
    stuck = world.stuck_at = world.measured
    since = world.now
    while world.status.cause is not Cause.TRACKING:
        world.pass_time(20)
        assert world.now - since <= 1_000 * MS
    assert world.status.state is State.HOLDING
    assert world.status.message.startswith("joint shoulder does not follow: it is 0.0")
    assert comes_to_rest(world, within_ms=1_000)
    world.event(RequestFailure(world.in_flight, FailureKind.TIMEOUT, "no answer"))
    # its command has come back to it: when it is released nothing jumps
    np.testing.assert_allclose(world.controller.reference(world.now).positions, stuck, atol=1e-6)
    world.stuck_at = None
    world.bridge.pause(world.now, True)
    world.bridge.pause(world.now, False)
    assert world.pass_time(2_000, until=SendRequest) is None
    assert world.status.cause is Cause.TRACKING
    world.bridge.reset(world.now)
    world.answer(world.pass_time(400, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_an_arm_that_somebody_else_moves_is_not_started(world):
    world.bridge.activate(world.now)
    world.up()
    world.stuck_at = list(MEASURED)
    request = world.pass_time(100, until=SendRequest)
    for _ in range(10):
        world.stuck_at[0] += 0.01  # half a radian a second
        world.pass_time(20)
    world.event(RequestDone(request.request_id, {"actions": still()}, 0.0, 0.2, COST))
    assert world.all(PublishTrajectory) == []
    assert (world.status.state, world.status.cause) == (State.HOLDING, Cause.COMMANDER)
    assert world.status.message.startswith("joint shoulder moves, and not by this node: by 0.1")
    world.stuck_at = list(MEASURED)
    world.pass_time(600)
    world.answer(world.all(SendRequest)[-1])
    assert world.status.state is State.RUNNING


def test_limits_that_are_taken_away_stop_a_moving_robot(world, settings, replace):
    moving_world(world)
    none = replace(settings.player, position_lower=(float("-inf"),) * 3)
    world.bridge.update_settings(replace(settings, player=none))
    assert comes_to_rest(world)
    assert world.status.state is State.FAULT
    assert world.status.message.startswith("parameter position_lower is not set for shoulder")
    world.bridge.update_settings(settings)
    world.answer_anew()
    assert world.status.state is State.RUNNING


def test_limits_that_are_lowered_hold_from_the_next_chunk_on(world, settings, replace):
    moving_world(world)
    slow = replace(settings.player, max_velocity=(0.1,) * 3)
    world.bridge.update_settings(replace(settings, player=slow))
    world.answer_anew(moving())
    world.pass_time(400)
    assert world.status.state is State.RUNNING
    assert 0 < world.speed <= 0.1 + 1e-6


def test_activating_again_ends_what_needs_a_person(world):
    moving_world(world)
    world.stuck_at = world.measured
    world.pass_time(1_000)
    assert world.status.cause is Cause.TRACKING
    world.event(RequestFailure(world.in_flight, FailureKind.TIMEOUT, "no answer"))
    world.bridge.deactivate(world.now)
    world.bridge.activate(world.now)
    world.stuck_at = None
    world.answer(world.pass_time(400, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_the_status_shows_how_well_the_arm_follows_and_how_far_limits_act(world):
    assert np.isnan(world.status.tracking_error)
    moving_world(world)
    world.pass_time(100)
    assert world.status.tracking_error < 0.02
    assert world.status.limited_share > 0.8  # it speeds up from rest, and stays behind
    world.offset = np.array([-0.05, 0.0, 0.0])
    world.pass_time(100)
    assert world.status.tracking_error == pytest.approx(
        0.03, abs=0.02
    )  # less what a delay explains


def test_an_arm_that_lags_by_less_than_the_delay_follows(world):
    moving_world(world)
    world.offset = np.array([-0.05, 0.0, 0.0])
    world.pass_time(400)
    assert world.status.state is State.RUNNING


def test_with_nobody_or_somebody_else_at_a_controllers_topic_it_holds_and_says_so(world):
    moving_world(world)
    good = CommandTopic("arm", "/arm/joint_trajectory", 1)
    world.bridge.command_topics(world.now, [good])
    assert world.status.state is State.RUNNING
    world.bridge.command_topics(world.now, [dataclasses.replace(good, other_publishers=("/b",))])
    world.collect()
    assert (world.status.state, world.status.cause) == (State.HOLDING, Cause.COMMANDER)
    assert "/b also publishes to /arm/joint_trajectory" in world.status.message
    assert comes_to_rest(world)
    world.event(RequestFailure(world.in_flight, FailureKind.TIMEOUT, "no answer"))
    assert world.pass_time(1_000, until=SendRequest) is None
    world.bridge.command_topics(world.now, [good])
    world.answer(world.pass_time(400, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_after_this_process_was_stopped_it_goes_on_from_where_the_controllers_have_braked(world):
    moving_world(world)
    world.now += 800 * MS  # nothing runs, nothing is heard
    stood = world.controller.reference(world.now).positions
    world.pass_time(20)
    assert world.status.state is State.HOLDING
    assert world.status.message.startswith("nothing could be commanded for 0.82 s")
    np.testing.assert_allclose(world.controller.reference(world.now).positions, stood, atol=1e-9)
    world.event(RequestFailure(world.in_flight, FailureKind.TIMEOUT, "no answer"))
    world.answer(world.pass_time(600, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_nothing_is_commanded_by_a_hold_before_anything_was_commanded(world):
    world.bridge.activate(world.now)
    world.up()
    world.bridge.hold(world.now)
    assert world.collect(PublishTrajectory) == []


def test_a_clock_that_is_set_back_is_a_hold_and_then_it_goes_on_in_the_new_time(world):
    world.run()
    world.now = 20 * MS
    world.controller = Controller(MEASURED)
    world.pass_time(20)
    assert world.status.message.startswith("the clock was set back by 1.0")
    world.answer(world.pass_time(100, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_a_clock_that_is_set_back_stops_a_moving_robot_where_it_is(world):
    moving_world(world)
    here = world.controller.reference(world.now).positions
    world.silent = {"joints"}
    world.now -= 500 * MS
    world.controller = Controller(here)
    assert comes_to_rest(world)
    gone = world.controller.reference(world.now).positions - here
    assert 0 <= gone[0] < 0.05

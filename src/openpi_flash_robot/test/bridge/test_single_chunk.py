"""single_chunk.py: one chunk for who asks, which is never played."""

import numpy as np
import pytest
from bridge_world import COST, MS, of, still

from openpi_flash_robot.bridge.effects import (
    AnswerChunk,
    PublishChunk,
    PublishTrajectory,
    SendRequest,
)
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.link.events import (
    FailureKind,
    LinkDown,
    RequestDone,
    RequestFailure,
)
from openpi_flash_robot.settings.node_settings import StopSettings


@pytest.fixture
def paused(world):
    """A connected robot that ~/pause keeps from moving, with nothing on the link."""
    world.bridge.activate(world.now)
    world.bridge.pause(world.now, paused=True)
    world.up()
    world.pass_time(100)
    assert world.status.state is State.PAUSED
    return world


def ask(world, prompt="", timeout=1.5):
    assert world.bridge.infer_once(world.now, prompt, timeout) == ""
    return world.collect(SendRequest)


def test_a_chunk_is_inferred_and_neither_published_nor_played(paused):
    (request,) = ask(paused)
    assert (request.timeout, request.observation.prompt) == (1.5, "stack the cubes")
    effects = paused.answer(request, still() + 0.01)
    (answer,) = of(effects, AnswerChunk)
    assert answer.message == ""
    np.testing.assert_array_equal(answer.chunk.actions, still() + 0.01)
    assert (answer.chunk.sequence, answer.chunk.first_step) == (0, 0)
    assert answer.chunk.start_ns == paused.now
    assert answer.chunk.observation_ns == request.observation.oldest_ns
    assert answer.chunk.instruction == Instruction("stack the cubes")
    assert answer.chunk.description.names == ("shoulder", "elbow", "gripper")
    paused.pass_time(500)
    assert paused.all(PublishChunk) == paused.all(PublishTrajectory) == []
    assert paused.status.state is State.PAUSED


def test_another_instruction_is_for_this_chunk_alone(paused):
    (request,) = ask(paused, "open the drawer")
    assert request.observation.prompt == "open the drawer"
    (answer,) = of(paused.answer(request), AnswerChunk)
    assert answer.chunk.instruction == Instruction("open the drawer", version=0)
    assert paused.status.prompt == "stack the cubes"


def test_a_robot_that_plays_chunks_refuses(world):
    world.run()
    refusal = world.bridge.infer_once(world.now, "", 0.0)
    assert refusal.startswith("the robot plays chunks; pause it")
    assert of(world.collect(), AnswerChunk) == []


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        (lambda w: w.bridge.deactivate(w.now), "PAUSED: not active"),
        (lambda w: w.event(LinkDown("gone")), "DISCONNECTED: gone"),
    ],
)
def test_who_asks_a_robot_that_cannot_is_told_why(paused, stop, why):
    stop(paused)
    assert paused.bridge.infer_once(paused.now, "", 0.0) == why


def test_an_emergency_stop_refuses_also_while_paused(settings, replace):
    from bridge_world import World

    world = World(replace(settings, stops=StopSettings(emergency_stops=("/estop",))))
    world.bridge.hear_stop(world.now, "/estop", True)
    world.bridge.activate(world.now)
    world.bridge.pause(world.now, paused=True)
    world.up()
    assert world.bridge.infer_once(world.now, "", 0.0) == "emergency stop /estop is pressed"


def test_one_at_a_time(paused):
    (request,) = ask(paused)
    assert paused.bridge.infer_once(paused.now, "", 0.0) == "another chunk is being inferred"
    paused.answer(request)
    assert len(ask(paused)) == 1


def test_missing_inputs_are_named(paused):
    paused.silent = {"scene"}
    paused.pass_time(500)
    ask(paused)
    (answer,) = paused.all(AnswerChunk)
    assert answer.chunk is None
    assert "camera scene" in answer.message


def test_it_waits_for_a_request_that_nobody_wants_any_more(world):
    world.bridge.activate(world.now)
    world.up()
    request = world.pass_time(100, until=SendRequest)
    world.bridge.pause(world.now, paused=True)
    assert ask(world) == [], "the link carries one request"
    world.event(RequestDone(request.request_id, {"actions": still()}, 0.0, 0.1, COST))
    (following,) = of(world.answer(world.pass_time(40, until=SendRequest)), AnswerChunk)
    assert following.chunk is not None


def test_a_robot_that_goes_on_asks_for_its_own_chunk_when_the_link_is_free(paused):
    (request,) = ask(paused)
    paused.bridge.pause(paused.now, paused=False)
    assert paused.pass_time(300, until=SendRequest) is None
    (answer,) = of(paused.answer(request), AnswerChunk)
    assert answer.chunk is not None
    assert paused.pass_time(40, until=SendRequest) is not None


@pytest.mark.parametrize(
    "actions", [still() * np.nan, np.zeros((50, 2)), np.zeros((3, 3))], ids=["nan", "N", "H"]
)
def test_a_chunk_that_nobody_could_play_is_an_error(paused, actions):
    (request,) = ask(paused)
    (answer,) = of(paused.answer(request, actions), AnswerChunk)
    assert answer.chunk is None
    assert answer.message


def test_a_failure_reaches_who_asked_and_does_not_hold_the_robot(paused):
    (request,) = ask(paused)
    before = paused.status
    failure = RequestFailure(request.request_id, FailureKind.TIMEOUT, "no answer within 1.5 s")
    (answer,) = of(paused.event(failure), AnswerChunk)
    assert (answer.chunk, answer.message) == (None, "no answer within 1.5 s")
    assert not paused.status.differs_from(before)
    assert paused.bridge.tally.deadline_misses == 0


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda w: w.event(LinkDown("gone")), "gone"),
        (lambda w: w.up(model="another"), "the server has changed"),
        (lambda w: w.bridge.deactivate(w.now), "not active"),
    ],
)
def test_who_waits_is_always_answered(paused, end, why):
    (request,) = ask(paused)
    end(paused)
    paused.collect()
    (answer,) = paused.all(AnswerChunk)
    assert (answer.chunk, answer.message) == (None, why)
    late = RequestDone(request.request_id, {"actions": still()}, 0.0, 0.1, COST)
    assert of(paused.event(late), AnswerChunk) == []
    assert paused.now > 100 * MS

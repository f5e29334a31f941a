"""bridge.py: the instruction, and what the planner makes of it."""

import pytest
from bridge_world import MS, comes_to_rest, of

from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishSubtask,
    ResetPolicy,
    SendRequest,
)
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import LinkDown


def test_a_new_prompt_is_asked_for_at_once(world):
    request = world.run()
    world.bridge.set_prompt(world.now, "open the drawer", reset=False)
    following = world.pass_time(60, until=SendRequest)
    assert world.now < request.observation.oldest_ns + 10 * 40 * MS
    assert following.observation.prompt == "open the drawer"
    assert world.status.prompt == "open the drawer"
    assert world.status.state is State.RUNNING


def test_the_same_prompt_again_costs_nothing(world):
    world.run()
    before, asked = world.status, len(world.all(SendRequest))
    for _ in range(5):
        world.bridge.set_prompt(world.now, "stack the cubes", reset=False)
        world.pass_time(20)
    assert len(world.all(SendRequest)) == asked
    assert not world.status.differs_from(before)


def test_chunks_say_for_which_instruction_and_episode_they_were_asked(world):
    request = world.run()
    world.bridge.set_prompt(world.now, "open the drawer", reset=False)
    following = world.pass_time(60, until=SendRequest)
    world.bridge.set_prompt(world.now, "close the drawer", reset=False)
    (chunk,) = of(world.answer(following), PublishChunk)
    assert chunk.instruction == Instruction("open the drawer", version=2, episode=1)
    assert world.status.instruction == Instruction("close the drawer", version=3, episode=1)
    world.bridge.reset(world.now)
    request = world.pass_time(60, until=SendRequest)
    (chunk,) = of(world.answer(request), PublishChunk)
    assert chunk.instruction == Instruction("close the drawer", version=3, episode=2)


def test_a_new_prompt_with_reset_forgets_the_running_chunk_and_resets_the_policy(world):
    world.run()
    world.bridge.set_prompt(world.now, "open the drawer", reset=True)
    effects = world.collect()
    assert len(of(effects, ResetPolicy)) == 1
    world.silent = {"scene"}
    assert comes_to_rest(world)


def test_a_subtask_is_shown_when_it_changes_with_the_stamp_it_was_made_for(world):
    request = world.run()
    words = {"text": "reach for the cube", "ms": 10.0, "age_ms": 100.0}
    request = world.pass_time(2_000, until=SendRequest)
    (first,) = of(world.answer(request, subtask=words), PublishSubtask)
    assert first == PublishSubtask(
        stamp_ns=request.observation.oldest_ns - 100 * MS,
        text="reach for the cube",
        prompt="stack the cubes",
        sequence=1,
        age=(world.now - request.observation.oldest_ns + 100 * MS) / 1e9,
    )
    same = world.answer(world.pass_time(2_000, until=SendRequest), subtask=words)
    assert of(same, PublishSubtask) == []
    words = words | {"text": "close the gripper"}
    (second,) = of(
        world.answer(world.pass_time(2_000, until=SendRequest), subtask=words), PublishSubtask
    )
    assert (second.text, second.sequence) == ("close the gripper", 2)


FAILED_PLANNER = {
    "text": "",
    "ms": 1.0,
    "age_ms": 0.0,
    "error": {"code": "internal", "message": "out of memory"},
}


def test_a_planner_that_fails_is_in_the_status_until_it_answers_again(world):
    world.run()
    words = {"text": "reach for the cube", "ms": 10.0, "age_ms": 0.0}
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=words)
    assert (world.status.cause, world.status.message) == (Cause.NONE, "")
    before = world.status
    request = world.pass_time(2_000, until=SendRequest)
    (shown,) = of(world.answer(request, subtask=FAILED_PLANNER), PublishSubtask)
    assert shown.error == "internal: out of memory"
    assert shown.text == "", "the words of before are not what it is doing now"
    assert world.status.state is State.RUNNING
    assert world.status.message == "acting without a subtask: internal: out of memory"
    assert world.status.differs_from(before)
    assert world.bridge.planner_error == "internal: out of memory"
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=words)
    assert (world.status.cause, world.status.message) == (Cause.NONE, "")


def test_an_old_subtask_of_a_planner_that_fails_is_shown_with_the_failure(world):
    world.run()
    old = {**FAILED_PLANNER, "text": "reach for the cube", "age_ms": 300.0}
    (shown,) = of(
        world.answer(world.pass_time(2_000, until=SendRequest), subtask=old), PublishSubtask
    )
    assert (shown.text, shown.error) == ("reach for the cube", "internal: out of memory")
    assert shown.age >= 0.3
    assert world.status.state is State.RUNNING
    assert world.status.message == "acting on an old subtask: internal: out of memory"


@pytest.mark.parametrize(
    "end",
    [
        lambda w: w.bridge.reset(w.now),
        lambda w: w.event(LinkDown("gone")),
        lambda w: w.bridge.deactivate(w.now),
    ],
    ids=["reset", "link lost", "not active"],
)
def test_a_planners_failure_is_forgotten_with_the_chunk_it_belongs_to(world, end):
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=FAILED_PLANNER)
    assert world.bridge.planner_error
    end(world)
    assert world.bridge.planner_error == ""


def test_what_holds_the_robot_comes_before_the_planner(world):
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), subtask=FAILED_PLANNER)
    world.bridge.hold(world.now)
    assert world.status.message == "held by ~/hold; call ~/reset to go on"

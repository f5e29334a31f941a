"""Plan, splice the prompt, act; and what a client learns when the planner fails."""

import threading

import pytest
from server_fakes import WAIT, FakePlanner, FakePolicy
from slot_pair import Pair

from openpi_flash_server.slot.answer import ErrorCode, Failure


@pytest.fixture
def pair_of():
    pairs = []

    def make(policy=None, planner=None, **options):
        pairs.append(Pair(policy or FakePolicy(), planner or FakePlanner(), **options))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.close()


def test_the_action_reads_task_and_subtask_and_the_reply_tells_the_subtask(pair_of):
    pair = pair_of()
    reply = pair.act(prompt="clear the table")
    assert pair.planner.prompts == ["clear the table"]
    assert pair.policy.seen[0]["prompt"] == ("clear the table. Subtask: step 1 of clear the table")
    assert reply.result["subtask"] == {
        "text": "step 1 of clear the table",
        "ms": 7.5,
        "age_ms": 0.0,
    }
    assert reply.result["actions"].shape == (3, 2)


def test_the_template_of_the_configuration_is_used_and_braces_are_ordinary_text(pair_of):
    pair = pair_of(template="{subtask} <- {task}")
    pair.act(prompt="sort {a} and {subtask}")
    assert pair.policy.seen[0]["prompt"] == (
        "step 1 of sort {a} and {subtask} <- sort {a} and {subtask}"
    )


def test_a_request_without_prompt_gets_the_default_prompt_and_a_request_with_one_keeps_it(pair_of):
    pair = pair_of(default_prompt="fold the towel")
    pair.act()
    pair.act(prompt="")
    pair.act(prompt="wipe")
    assert pair.planner.prompts == ["fold the towel", "fold the towel", "wipe"]
    assert [seen["prompt"].split(".")[0] for seen in pair.policy.seen] == [
        "fold the towel",
        "fold the towel",
        "wipe",
    ]


def test_a_request_without_any_prompt_is_refused_before_anything_runs(pair_of):
    pair = pair_of()
    failure = pair.act()
    assert failure.code is ErrorCode.BAD_REQUEST
    assert failure.message == (
        "prompt: missing, and the server has no default_prompt; send the task in words"
    )
    assert pair.policy.seen == []
    assert pair.planner.prompts == []


def test_action_only_does_not_plan_and_keeps_the_prompt(pair_of):
    pair = pair_of()
    reply = pair.act(prompt="wipe", mode="action_only")
    assert "subtask" not in reply.result
    assert pair.planner.prompts == []
    assert pair.policy.seen[0]["prompt"] == "wipe"


def test_subtask_only_does_not_act(pair_of):
    pair = pair_of()
    reply = pair.act(prompt="wipe", mode="subtask_only", observation_stamp=5)
    assert reply.result["subtask"]["text"] == "step 1 of wipe"
    assert reply.result["observation_stamp"] == 5
    assert "actions" not in reply.result
    assert pair.policy.seen == []


@pytest.mark.parametrize("slot", ["act", "plan"])
def test_an_unknown_mode_is_a_bad_request(pair_of, slot):
    failure = getattr(pair_of(), slot)(prompt="wipe", mode="dance")
    assert failure.code is ErrorCode.BAD_REQUEST
    assert failure.message.startswith("mode: expected default, action_only, subtask_only")


@pytest.mark.parametrize("mode", ["default", "subtask_only", "action_only"])
def test_the_planner_endpoint_answers_the_subtask_in_every_mode(pair_of, mode):
    reply = pair_of().plan(prompt="wipe", mode=mode)
    assert reply.result["subtask"]["text"] == "step 1 of wipe"
    assert "actions" not in reply.result


def test_an_empty_subtask_leaves_the_prompt_alone_and_is_no_error(pair_of):
    pair = pair_of()
    pair.planner.answers = [""]
    reply = pair.act(prompt="wipe")
    assert pair.policy.seen[0]["prompt"] == "wipe"
    assert reply.result["subtask"] == {"text": "", "ms": 7.5, "age_ms": 0.0}


def test_a_planner_that_fails_is_reported_and_the_robot_still_gets_actions(pair_of, caplog):
    pair = pair_of()
    pair.planner.answers = [RuntimeError("out of memory"), "grasp the cup"]
    first, second = pair.act(prompt="wipe"), pair.act(prompt="wipe")
    assert first.result["subtask"]["text"] == ""
    assert first.result["subtask"]["error"] == {
        "code": "internal",
        "message": "RuntimeError: out of memory",
    }
    assert first.result["actions"].shape == (3, 2)
    assert pair.policy.seen[0]["prompt"] == "wipe"
    assert "request failed" in caplog.text
    assert "acting without a subtask" in caplog.text
    assert second.result["subtask"]["text"] == "grasp the cup"
    assert "error" not in second.result["subtask"]


def test_a_planner_that_fails_fails_a_request_for_the_subtask_alone(pair_of, caplog):
    pair = pair_of()
    pair.planner.answers = [RuntimeError("out of memory")]
    failure = pair.act(prompt="wipe", mode="subtask_only")
    assert isinstance(failure, Failure)
    assert failure.code is ErrorCode.INTERNAL
    assert failure.message == "RuntimeError: out of memory"


def test_an_observation_that_the_planner_cannot_read_is_a_bad_request(pair_of):
    from openpi_flash_models.errors import ObservationError

    pair = pair_of()
    pair.planner.answers = [ObservationError("observation/image", "expected uint8")]
    failure = pair.act(prompt="wipe")
    assert failure.code is ErrorCode.BAD_REQUEST
    assert failure.message == "observation/image: expected uint8"
    assert pair.policy.seen == []


def test_the_planner_never_runs_twice_at_once_whoever_asks(pair_of):
    pair = pair_of(planner=FakePlanner(gate=threading.Event()))
    inboxes = [pair.send(pair.planner_slot, {"prompt": "a"}, session="direct")]
    assert pair.planner.entered.acquire(timeout=WAIT)
    inboxes.append(pair.send(pair.action_slot, {"prompt": "b"}, session="robot"))
    pair.planner.gate.set()
    for inbox in inboxes:
        assert "subtask" in inbox.wait().result
    assert pair.planner.most_running == 1
    assert pair.planner.prompts == ["a", "b"]


def test_a_deadline_that_passes_while_the_planner_is_busy_fails_the_request(pair_of):
    pair = pair_of(planner=FakePlanner(gate=threading.Event()))
    pair.send(pair.planner_slot, {"prompt": "a"}, session="direct")
    assert pair.planner.entered.acquire(timeout=WAIT)
    waits = pair.send(pair.action_slot, {"prompt": "b", "deadline_ms": 1e-3})
    pair.planner.gate.set()
    failure = waits.wait()
    assert failure.code is ErrorCode.DEADLINE_EXCEEDED
    assert pair.policy.seen == []


def test_a_planner_slot_that_shuts_down_leaves_the_action_slot_answering(pair_of, caplog):
    pair = pair_of()
    pair.planner_slot.close(grace=WAIT)
    reply = pair.act(prompt="wipe")
    assert reply.result["subtask"]["error"] == {"code": "not_ready", "message": "shutting down"}
    assert reply.result["actions"].shape == (3, 2)

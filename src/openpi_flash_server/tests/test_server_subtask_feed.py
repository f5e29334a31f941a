"""Actions beside a planner in the background, and what a planner's trouble costs a robot."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
from served_slot import wait_until
from server_fakes import CLIENT, WAIT, FakePlanner, FakePolicy
from slot_pair import INLINE, Pair

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.handlers.subtask_board import Pace
from openpi_flash_server.slot.answer import ErrorCode
from openpi_flash_server.slot.client import Client

BACKGROUND = Pace(every_request=False, period=1e-9, longest_wait=WAIT, oldest=WAIT)
"""Every request asks for a new subtask, if none is under way."""
IMPATIENT = dataclasses.replace(BACKGROUND, longest_wait=1e-3)


@pytest.fixture
def pair_of():
    pairs = []

    def make(policy=None, planner=None, **options):
        options = {"pace": BACKGROUND, **options}
        pairs.append(Pair(policy or FakePolicy(), planner or FakePlanner(), **options))
        return pairs[-1]

    yield make
    for pair in pairs:
        if pair.planner.gate is not None:
            pair.planner.gate.set()
        pair.close()


def holding():
    """A planner that answers when its gate is opened."""
    return FakePlanner(gate=threading.Event())


def test_the_first_action_of_a_prompt_waits_for_its_subtask(pair_of):
    pair = pair_of()
    reply = pair.act(prompt="wipe")
    assert pair.policy.seen[0]["prompt"] == "wipe. Subtask: step 1 of wipe"
    assert reply.result["subtask"] == {"text": "step 1 of wipe", "ms": 7.5, "age_ms": 0.0}


def test_later_actions_are_answered_at_once_with_the_newest_subtask_and_its_age(pair_of):
    pair = pair_of()
    pair.act(prompt="wipe")
    pair.planner.gate = threading.Event()
    # the planner holds the second run: these answers cannot come from it
    ages = [pair.act(prompt="wipe").result["subtask"]["age_ms"] for _ in range(3)]
    assert 0.0 < ages[0] < ages[1] < ages[2]
    assert {seen["prompt"] for seen in pair.policy.seen} == {"wipe. Subtask: step 1 of wipe"}
    pair.planner.gate.set()
    texts = (pair.act(prompt="wipe").result["subtask"]["text"] for _ in itertools.count())
    assert next(text for text in texts if text != "step 1 of wipe").startswith("step ")


def test_a_new_prompt_never_gets_the_old_ones_subtask(pair_of):
    pair = pair_of()
    pair.act(prompt="wipe")
    reply = pair.act(prompt="fold")
    assert reply.result["subtask"]["text"].endswith("of fold")
    assert pair.policy.seen[-1]["prompt"].startswith("fold. Subtask: ")


def test_an_action_of_another_robot_is_answered_while_one_waits_for_its_first_subtask(pair_of):
    pair = pair_of()
    pair.act(prompt="wipe")
    planner = pair.planner
    planner.gate = threading.Event()
    waits = pair.send(pair.action_slot, {"prompt": "fold"}, session="other")
    assert pair.act(prompt="wipe").result["subtask"]["text"] == "step 1 of wipe"
    assert waits.answers == []
    planner.gate.set()
    assert waits.wait().result["subtask"]["text"].endswith("of fold")


@pytest.mark.parametrize("pace", [IMPATIENT, dataclasses.replace(INLINE, longest_wait=1e-3)])
def test_a_planner_that_hangs_stops_no_robot(pair_of, caplog, pace):
    pair = pair_of(planner=holding(), pace=pace)
    for _ in range(3):
        reply = pair.act(prompt="wipe")
        assert reply.result["actions"].shape == (3, 2)
        assert reply.result["subtask"]["text"] == ""
        assert reply.result["subtask"]["error"]["code"] == "not_ready"
        assert "has not answered for" in reply.result["subtask"]["error"]["message"]
    assert caplog.text.count("acting without a subtask") == 1


@pytest.mark.parametrize("pace", [BACKGROUND, INLINE])
def test_a_client_that_leaves_before_the_planner_begins_costs_no_run_and_no_action(pair_of, pace):
    pair = pair_of(planner=holding(), pace=pace)
    first = pair.send(pair.planner_slot, {"prompt": "a"}, session="direct")
    assert pair.planner.entered.acquire(timeout=WAIT)
    left = threading.Event()
    gone = pair.send(pair.action_slot, {"prompt": "b"}, is_cancelled=left.is_set)
    left.set()
    pair.planner.gate.set()
    assert first.wait().result["subtask"]["text"] == "step 1 of a"
    assert pair.act(prompt="c").result["subtask"]["text"] == "step 2 of c"
    assert gone.wait().code is ErrorCode.SUPERSEDED
    assert pair.planner.prompts == ["a", "c"]
    assert len(pair.policy.seen) == 1


@pytest.mark.parametrize("pace", [BACKGROUND, INLINE])
def test_a_client_that_leaves_during_planning_costs_no_action(pair_of, pace):
    pair = pair_of(planner=holding(), pace=pace)
    left = threading.Event()
    gone = pair.send(pair.action_slot, {"prompt": "wipe"}, is_cancelled=left.is_set)
    assert pair.planner.entered.acquire(timeout=WAIT)
    left.set()
    pair.planner.gate.set()
    assert gone.wait().code is ErrorCode.SUPERSEDED
    assert pair.policy.seen == []


def test_a_run_goes_on_for_the_next_request_of_a_session_whose_first_one_left(pair_of):
    pair = pair_of(planner=holding())
    pair.send(pair.planner_slot, {"prompt": "a"}, session="direct")
    assert pair.planner.entered.acquire(timeout=WAIT)
    left = threading.Event()
    pair.send(pair.action_slot, {"prompt": "b"}, is_cancelled=left.is_set)
    second = pair.send(pair.action_slot, {"prompt": "b"})
    left.set()
    pair.planner.gate.set()
    assert second.wait().result["subtask"]["text"] == "step 2 of b"


def test_a_first_subtask_is_planned_before_the_refreshes_of_others(pair_of):
    pair = pair_of()
    for session in ("a", "b"):
        pair.send(pair.action_slot, {"prompt": session}, session).wait()
    planner = pair.planner
    wait_until(lambda: pair.planner_slot.waiting == planner.running == 0)
    planner.gate = threading.Event()
    while planner.entered.acquire(blocking=False):
        pass
    busy = pair.send(pair.planner_slot, {"prompt": "direct"}, session="direct")
    assert planner.entered.acquire(timeout=WAIT)
    since = len(planner.prompts)
    # these actions follow the subtasks that are there, and ask for newer ones
    for session in ("a", "b"):
        pair.send(pair.action_slot, {"prompt": session}, session).wait()
    first = pair.send(pair.action_slot, {"prompt": "c"}, session="c")
    wait_until(lambda: pair.planner_slot.waiting == 3)
    planner.gate.set()
    busy.wait()
    first.wait()
    wait_until(lambda: len(planner.prompts) == since + 3)
    assert planner.prompts[since:] == ["c", "a", "b"]


def test_a_failed_refresh_is_told_beside_the_last_subtask(pair_of, caplog):
    pair = pair_of()
    pair.act(prompt="wipe")
    pair.planner.answers = [RuntimeError("out of memory")] * 1000
    with_error = None
    for _ in range(1000):
        with_error = pair.act(prompt="wipe").result["subtask"]
        if "error" in with_error:
            break
    assert with_error["text"] == "step 1 of wipe"
    assert with_error["age_ms"] > 0
    assert with_error["error"] == {"code": "internal", "message": "RuntimeError: out of memory"}
    assert "acting on an old subtask" in caplog.text


def test_health_reports_a_planner_that_fails_again_and_again_until_it_answers(pair_of):
    pair = pair_of(pace=INLINE)
    pair.planner.answers = [RuntimeError("out of memory")] * 3
    for _ in range(2):
        pair.act(prompt="wipe")
    assert pair.planner_slot.unhealthy_because is None
    pair.act(prompt="wipe")
    assert pair.planner_slot.unhealthy_because == (
        "the last 3 runs failed: RuntimeError: out of memory"
    )
    assert pair.action_slot.unhealthy_because is None
    pair.act(prompt="wipe")
    assert pair.planner_slot.unhealthy_because is None


def test_health_reports_a_planner_that_hangs_until_it_answers(pair_of):
    pair = pair_of(planner=holding(), pace=dataclasses.replace(IMPATIENT, oldest=1e-3))
    pair.act(prompt="wipe")
    assert pair.planner_slot.unhealthy_because == "no answer for 0 s"
    pair.planner.gate.set()
    wait_until(lambda: pair.planner_slot.unhealthy_because is None)


def test_an_observation_that_the_planner_cannot_read_stops_no_robot_in_the_background(pair_of):
    pair = pair_of()
    pair.planner.answers = [ObservationError("observation/image", "expected uint8")]
    reply = pair.act(prompt="wipe")
    assert reply.result["actions"].shape == (3, 2)
    assert reply.result["subtask"]["error"]["code"] == "bad_request"


def test_a_reset_forgets_the_subtask(pair_of):
    pair = pair_of()
    pair.act(prompt="wipe")
    pair.action_slot.reset("robot")
    reply = pair.act(prompt="wipe")
    assert reply.result["subtask"] == {"text": "step 2 of wipe", "ms": 7.5, "age_ms": 0.0}


def test_nothing_is_kept_of_sessions_that_ended(pair_of):
    pair = pair_of()
    for index in range(5):
        client = Client(f"10.0.0.{index}:1#1", f"10.0.0.{index}")
        session = f"robot {index}"
        pair.send(pair.action_slot, {"prompt": "wipe"}, session, client=client).wait()
        pair.action_slot.client_left(client)
    feed = pair.feed
    assert len(feed._board) == 0
    assert not feed._rows
    assert not feed._held
    assert not feed._asked


def test_the_subtask_alone_is_the_newest_one_and_an_error_if_there_is_none(pair_of):
    pair = pair_of(planner=holding(), pace=IMPATIENT)
    failure = pair.act(prompt="wipe", mode="subtask_only")
    assert failure.code is ErrorCode.NOT_READY
    pair.planner.gate.set()
    wait_until(lambda: "error" not in pair.act(prompt="wipe").result["subtask"])
    reply = pair.act(prompt="wipe", mode="subtask_only")
    assert reply.result["subtask"]["text"].startswith("step ")
    assert "actions" not in reply.result


def test_action_only_asks_for_nothing(pair_of):
    pair = pair_of()
    assert "subtask" not in pair.act(prompt="wipe", mode="action_only").result
    assert pair.planner.prompts == []


@pytest.mark.parametrize("pace", [BACKGROUND, INLINE])
def test_each_row_of_a_batch_has_its_own_subtask(pair_of, pace):
    pair = pair_of(pace=pace)
    tasks = ["wipe", "fold", "wipe"]
    reply = pair.act(state=np.zeros((3, 2)), prompt=tasks, batch=3)
    texts = [subtask["text"] for subtask in reply.result["subtask"]]
    assert [text.split(" of ")[1] for text in texts] == tasks
    assert len(set(texts)) == 3


def test_requests_are_released_when_another_policy_takes_over(pair_of):
    pair = pair_of(planner=holding())
    waits = pair.send(pair.action_slot, {"prompt": "wipe"}, client=CLIENT)
    pair.planner.entered.acquire(timeout=WAIT)
    pair.replace_policy(FakePolicy())
    assert waits.wait().result["actions"].shape == (3, 2)

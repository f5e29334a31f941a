"""One handler, its thread, and that every request is answered exactly once."""

import threading

import numpy as np
import pytest
from server_fakes import CLIENT, WAIT, FakePolicy, Inbox, logged_slot, make_work, open_with

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.work import RequestMode


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def open_slot():
    """Opens slots for a test and closes them after it."""
    slots, gates = [], []

    def open_(policy, **options):
        slot = logged_slot("action", **options)
        open_with(slot, ActionHandler(policy))
        slots.append(slot)
        if policy.gate is not None:
            gates.append(policy.gate)
        return slot

    yield open_
    for gate in gates:
        gate.set()
    for slot in slots:
        assert slot.close(grace=WAIT)


def receive(slot, message, *, session="robot", is_cancelled=lambda: False):
    inbox = Inbox()
    slot.receive(
        lambda: message, client=CLIENT, session=session, respond=inbox, is_cancelled=is_cancelled
    )
    return inbox


def test_a_request_is_answered_with_actions_and_timing(open_slot):
    slot = open_slot(FakePolicy())
    reply = receive(slot, {"state": np.array([1.5, -2.0]), "observation_stamp": 17}).wait()
    assert isinstance(reply, Reply)
    assert reply.result["actions"].dtype == np.float64
    assert reply.result["actions"].tolist() == [[1.5, -2.0]] * 3
    assert reply.result["policy_timing"] == {"infer_ms": 1.25}
    assert reply.result["observation_stamp"] == 17
    assert set(reply.result["server_timing"]) == {
        "infer_ms",
        "queue_ms",
        "decode_ms",
        "batch_size",
    }
    assert all(value >= 0 for value in reply.result["server_timing"].values())


def test_timing_adds_up_to_the_time_that_passed():
    clock = Clock()
    policy = FakePolicy()
    slot = logged_slot("action", clock=clock)

    class SlowHandler(ActionHandler):
        def handle(self, request):
            clock.now += 0.050
            return super().handle(request)

    def decode():
        clock.now += 0.004
        return {"state": np.zeros(2)}

    inbox = Inbox()
    open_with(slot, SlowHandler(policy))
    slot.receive(decode, client=CLIENT, session="robot", respond=inbox, is_cancelled=lambda: False)
    timing = inbox.wait().result["server_timing"]
    assert timing == pytest.approx(
        {"decode_ms": 4.0, "queue_ms": 0.0, "infer_ms": 50.0, "batch_size": 1}
    )
    slot.close(grace=WAIT)


def test_sequence_numbers_grow_by_one_per_inference(open_slot):
    slot = open_slot(FakePolicy())
    numbers = [receive(slot, {"state": np.zeros(2)}).wait().result["sequence"] for _ in range(3)]
    assert numbers == [1, 2, 3]


def test_controls_reach_the_policy(open_slot):
    policy = FakePolicy()
    slot = open_slot(policy)
    noise = np.ones((3, 2), np.float32)
    message = {"state": np.zeros(2), "seed": 4, "num_steps": 6, "noise": noise}
    receive(slot, message).wait()
    assert (policy.controls[0].seed, policy.controls[0].num_steps) == (4, 6)
    np.testing.assert_array_equal(policy.controls[0].noise, noise)
    assert set(policy.seen[0]) == {"state"}


def test_all_inference_happens_on_one_thread_one_at_a_time(open_slot):
    policy = FakePolicy()
    slot = open_slot(policy)
    inboxes = [receive(slot, {"state": np.zeros(2)}, session=f"robot{i}") for i in range(20)]
    for inbox in inboxes:
        assert isinstance(inbox.wait(), Reply)
    assert policy.threads == {"slot-action"}
    assert policy.most_running == 1


def test_a_newer_observation_supersedes_the_one_that_waits_and_not_the_one_that_runs(open_slot):
    policy = FakePolicy(gate=threading.Event())
    slot = open_slot(policy)
    runs = receive(slot, {"state": np.full(2, 1.0)})
    assert policy.entered.acquire(timeout=WAIT)
    waits = receive(slot, {"state": np.full(2, 2.0)})
    newest = receive(slot, {"state": np.full(2, 3.0)})
    assert waits.wait() == Failure(
        ErrorCode.SUPERSEDED, "a newer observation of this session took this one's place"
    )
    policy.gate.set()
    assert runs.wait().result["actions"][0, 0] == 1.0
    assert newest.wait().result["actions"][0, 0] == 3.0
    assert len(policy.seen) == 2


def test_a_request_whose_deadline_passed_while_it_waited_is_not_run(open_slot):
    clock = Clock()
    policy = FakePolicy(gate=threading.Event())
    slot = open_slot(policy, clock=clock)
    receive(slot, {"state": np.zeros(2)}, session="first")
    assert policy.entered.acquire(timeout=WAIT)
    late = receive(slot, {"state": np.zeros(2), "deadline_ms": 30}, session="second")
    clock.now += 0.031
    policy.gate.set()
    assert late.wait() == Failure(ErrorCode.DEADLINE_EXCEEDED, "waited longer than deadline_ms")
    assert len(policy.seen) == 1


def test_a_request_that_nobody_wants_any_more_is_not_run(open_slot):
    policy = FakePolicy(gate=threading.Event())
    slot = open_slot(policy)
    receive(slot, {"state": np.zeros(2)}, session="first")
    assert policy.entered.acquire(timeout=WAIT)
    left = threading.Event()
    gone = receive(slot, {"state": np.zeros(2)}, session="second", is_cancelled=left.is_set)
    left.set()
    policy.gate.set()
    assert isinstance(gone.wait(), Failure)
    assert len(policy.seen) == 1


def test_a_request_whose_client_has_left_gives_its_place_back_while_the_model_is_busy(open_slot):
    policy = FakePolicy(gate=threading.Event())
    slot = open_slot(policy)
    receive(slot, {"state": np.zeros(2)}, session="first")
    assert policy.entered.acquire(timeout=WAIT)
    left = threading.Event()
    gone = receive(slot, {"state": np.zeros(2)}, session="second", is_cancelled=left.is_set)
    left.set()
    assert isinstance(gone.wait(), Failure)
    policy.gate.set()


def test_more_sessions_than_places_are_refused_and_say_so(open_slot):
    policy = FakePolicy(gate=threading.Event())
    slot = open_slot(policy, capacity=2)
    receive(slot, {"state": np.zeros(2)}, session="running")
    assert policy.entered.acquire(timeout=WAIT)
    for name in "ab":
        receive(slot, {"state": np.zeros(2)}, session=name)
    refused = receive(slot, {"state": np.zeros(2)}, session="c").wait()
    assert refused == Failure(ErrorCode.NOT_READY, "too many sessions are waiting already")


BAD_MESSAGES = [
    ({}, "state: missing, expected float32 [2]"),
    ({"state": np.zeros(5)}, "state: expected shape [2], got [5]"),
    ([], "observation: expected a map, got list"),
    ({"state": np.zeros(2), "mode": "dance"}, "mode: expected default, action_only, subtask_only"),
    ({"state": np.zeros(2), "mode": "subtask_only"}, "mode: subtask_only needs a planner"),
    ({"state": np.zeros(2), "seed": "x"}, "seed: expected a whole number from 0, got 'x'"),
]


@pytest.mark.parametrize(("message", "error"), BAD_MESSAGES)
def test_a_bad_request_is_told_what_is_wrong_and_the_next_one_works(open_slot, message, error):
    slot = open_slot(FakePolicy())
    failure = receive(slot, message).wait()
    assert failure.code is ErrorCode.BAD_REQUEST
    assert failure.message.startswith(error)
    assert "Traceback" in failure.traceback
    assert isinstance(receive(slot, {"state": np.zeros(2)}).wait(), Reply)


@pytest.mark.parametrize("error", [RuntimeError("boom\nmore"), SystemExit(3), KeyError("k")])
def test_a_handler_that_fails_is_our_fault_and_the_slot_lives_on(caplog, error):
    class Failing:
        def handle(self, request):
            if "fail" in request.observation:
                raise error
            return {"fine": True}

    slot = logged_slot("action")
    open_with(slot, Failing())
    failure = receive(slot, {"fail": 1}).wait()
    assert failure.code is ErrorCode.INTERNAL
    assert failure.message.startswith(type(error).__name__)
    assert "\n" not in failure.message
    assert "request failed" in caplog.text
    assert "in handle" in caplog.text, "the log holds the traceback"
    assert receive(slot, {}).wait().result["fine"]
    slot.close(grace=WAIT)


def test_actions_that_are_not_finite_never_leave(caplog):
    class Broken(FakePolicy):
        def infer(self, observation, controls=None):
            result = super().infer(observation, controls)
            result.actions[1, 0] = np.nan
            return result

    slot = logged_slot("action")
    open_with(slot, ActionHandler(Broken()))
    failure = receive(slot, {"state": np.zeros(2)}).wait()
    assert failure.code is ErrorCode.INTERNAL
    assert failure.message == (
        "ModelOutputError: the model's actions are not finite: actions[1, 0] is nan"
    )
    slot.close(grace=WAIT)


def test_a_respond_that_fails_does_not_stop_the_slot(open_slot, caplog):
    slot = open_slot(FakePolicy())

    def broken(answer):
        raise OSError("no route")

    slot.receive(
        lambda: {"state": np.zeros(2)},
        client=CLIENT,
        session="a",
        respond=broken,
        is_cancelled=lambda: False,
    )
    assert isinstance(receive(slot, {"state": np.zeros(2)}, session="b").wait(), Reply)
    assert "answer could not be sent" in caplog.text


def test_a_repeated_mistake_is_logged_once(open_slot, caplog):
    caplog.set_level("INFO", "openpi_flash_server")
    slot = open_slot(FakePolicy())
    for _ in range(5):
        receive(slot, {}).wait()
    assert caplog.text.count("request refused") == 1


def test_before_it_opens_a_slot_refuses_with_the_reason():
    slot = logged_slot("action")
    assert slot.not_ready_because == "starting"
    slot.prepares(Stage.LOADING, "warming up: compiling")
    failure = receive(slot, {"state": np.zeros(2)}).wait()
    assert failure == Failure(ErrorCode.NOT_READY, "warming up: compiling")
    open_with(slot, ActionHandler(FakePolicy()))
    assert slot.not_ready_because is None
    slot.close(grace=WAIT)


def test_when_closing_has_no_time_it_refuses_what_waits_and_what_comes():
    policy = FakePolicy(gate=threading.Event())
    slot = logged_slot("action")
    open_with(slot, ActionHandler(policy))
    runs = receive(slot, {"state": np.zeros(2)}, session="a")
    assert policy.entered.acquire(timeout=WAIT)
    waits = receive(slot, {"state": np.zeros(2)}, session="b")
    assert not slot.close(grace=0)
    assert waits.wait() == Failure(ErrorCode.NOT_READY, "shutting down")
    late = receive(slot, {"state": np.zeros(2)}, session="c")
    assert late.wait() == Failure(ErrorCode.NOT_READY, "shutting down")
    policy.gate.set()
    assert isinstance(runs.wait(), Reply)
    assert slot.close(grace=WAIT)


def test_closing_runs_what_waits_if_there_is_time():
    policy = FakePolicy(gate=threading.Event())
    slot = logged_slot("action")
    open_with(slot, ActionHandler(policy))
    runs = receive(slot, {"state": np.zeros(2)}, session="a")
    assert policy.entered.acquire(timeout=WAIT)
    waits = receive(slot, {"state": np.ones(2)}, session="b")
    slot.stop_accepting()
    late = receive(slot, {"state": np.zeros(2)}, session="c")
    assert late.wait() == Failure(ErrorCode.NOT_READY, "shutting down")
    policy.gate.set()
    assert slot.close(grace=WAIT)
    assert isinstance(runs.wait(), Reply)
    assert waits.wait().result["actions"][0, 0] == 1


def test_a_slot_that_never_opened_can_be_closed():
    assert logged_slot("action").close(grace=0)


def test_reset_drops_what_waits_for_that_session_only(open_slot):
    policy = FakePolicy(gate=threading.Event())
    slot = open_slot(policy)
    receive(slot, {"state": np.zeros(2)}, session="running")
    assert policy.entered.acquire(timeout=WAIT)
    mine = receive(slot, {"state": np.zeros(2)}, session="mine")
    other = receive(slot, {"state": np.zeros(2)}, session="other")
    slot.reset("mine")
    assert mine.wait().code is ErrorCode.SUPERSEDED
    policy.gate.set()
    assert isinstance(other.wait(), Reply)


def test_an_action_handler_serves_the_modes_that_need_no_planner():
    handler = ActionHandler(FakePolicy())
    for mode in (RequestMode.DEFAULT, RequestMode.ACTION_ONLY):
        assert "actions" in handler.handle(make_work(mode=mode))
    with pytest.raises(ObservationError, match="mode: subtask_only needs a planner"):
        handler.handle(make_work(mode=RequestMode.SUBTASK_ONLY))

"""The first steps of a chunk ahead of the rest: the policy, the handlers, the slot, the wire."""

import dataclasses
import json
import sys
import textwrap
import threading

import numpy as np
import pytest
from served_slot import wait_until
from server_configs import parse
from server_fakes import CLIENT, SPEC, WAIT, FakePolicy, Inbox, logged_slot, make_work, open_with
from typer.testing import CliRunner

from flash_transport import FlashTransportPolicy, ServerError, WebsocketPolicy
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import DEFAULT_CONTROLS, ActionResult
from openpi_flash_server.cli import app
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.own_policy.errors import PolicyCallError
from openpi_flash_server.own_policy.own_policy import own_policy
from openpi_flash_server.recording.records import message_of
from openpi_flash_server.serving.service import Service
from openpi_flash_server.shadow.shadowing_handler import ShadowingHandler
from openpi_flash_server.slot import events
from openpi_flash_server.slot.answer import ErrorCode, Reply
from openpi_flash_server.slot.batch_request import parse_works
from openpi_flash_server.slot.decoding import Decoding
from openpi_flash_server.slot.runner import run_batch
from openpi_flash_server.slot.work import parse_message

CHUNK = np.arange(8.0).reshape(4, 2)


# a user's object


class Streams:
    """Yields the beginnings of these lengths of a chunk; `spoil` changes what is yielded."""

    def __init__(self, *lengths, spoil=lambda number, part: part):
        self.lengths = lengths
        self.spoil = spoil
        self.yielded = 0
        self.is_closed = False

    def infer_stream(self, observation):
        try:
            for number, length in enumerate(self.lengths):
                self.yielded += 1
                yield self.spoil(number, {"actions": CHUNK[:length]})
        finally:
            self.is_closed = True


def asked(policy, steps):
    """The result, and the first actions that came with how much of the chunk yielded."""
    first = []
    result = policy.infer_with_first(
        {}, DEFAULT_CONTROLS, steps, lambda actions: first.append(actions.tolist())
    )
    return result, first


def test_the_first_steps_are_passed_on_when_that_many_are_yielded():
    streams, at = Streams(1, 2, 3, 4), []
    result = own_policy(streams, "python:m:p").infer_with_first(
        {}, DEFAULT_CONTROLS, 2, lambda actions: at.append((streams.yielded, actions.tolist()))
    )
    assert at == [(2, CHUNK[:2].tolist())]
    assert result.actions.tolist() == CHUNK.tolist()
    assert streams.is_closed


def test_a_part_with_more_steps_gives_those_that_were_asked_for():
    _, first = asked(own_policy(Streams(3, 4), "python:m:p"), 2)
    assert first == [CHUNK[:2].tolist()]


def test_a_whole_chunk_is_not_sent_twice():
    for lengths, steps in (((4,), 2), ((2, 4), 3), ((2, 4), 9)):
        streams = Streams(*lengths)
        streams.metadata = {"action_horizon": 4}
        result, first = asked(own_policy(streams, "python:m:p"), steps)
        assert (first, len(result.actions)) == ([], 4)


@pytest.mark.parametrize(
    ("spoil", "message", "gives_first"),
    [
        (lambda n, part: {"actions": np.full((2, 2), np.nan)}, "not finite", False),
        (lambda n, part: {"actions": CHUNK[:2, :1]}, "its action_dim is 2", False),
        (lambda n, part: {"action": 1}, "answered a map with action", False),
        (lambda n, part: part["actions"], "answered a ndarray", False),
        (lambda n, part: {"actions": part["actions"] + n}, "changed its first 2 steps", True),
        (lambda n, part: part if n == 0 else 1 / 0, "raised ZeroDivisionError", True),
        (lambda n, part: part if n == 0 else {"actions": CHUNK[:1]}, "changed its first", True),
    ],
)
def test_a_wrong_part_fails_the_request_and_ends_the_stream(spoil, message, gives_first):
    streams, first = Streams(2, 4, spoil=spoil), []
    streams.metadata = {"action_dim": 2}
    with pytest.raises(PolicyCallError, match=message):
        own_policy(streams, "python:m:p").infer_with_first({}, DEFAULT_CONTROLS, 2, first.append)
    assert bool(first) is gives_first
    assert streams.is_closed


def test_a_refused_observation_stays_the_callers_fault():
    def refuse(number, part):
        raise ObservationError("state", "too short")

    with pytest.raises(ObservationError, match="too short"):
        asked(own_policy(Streams(2, 4, spoil=refuse), "python:m:p"), 2)


def test_a_stream_alone_is_a_policy_and_an_empty_one_no_answer():
    policy = own_policy(Streams(2, 4), "python:m:p")
    assert policy.infer({}).actions.tolist() == CHUNK.tolist()
    assert policy.spec.supports == ("first_actions",)
    for ask in (policy.infer, lambda _: asked(policy, 2)):
        policy._policy.lengths = ()
        with pytest.raises(PolicyCallError, match="answered a NoneType"):
            ask({})


def test_a_policy_without_a_stream_answers_whole():
    class Whole:
        def infer(self, observation):
            return {"actions": CHUNK}

    policy = own_policy(Whole(), "python:m:p")
    assert policy.spec.supports == ()
    result, first = asked(policy, 2)
    assert (first, len(result.actions)) == ([], 4)


# the work of a request


def test_first_actions_are_a_number_of_steps_and_no_part_of_the_observation():
    work = parse_message({"state": 1, "first_actions": np.int64(3)}, session="robot")
    assert (work.first_actions, work.observation) == (3, {"state": 1})
    for wrong in (0, -1, 1.5, True, "3"):
        with pytest.raises(ObservationError, match="first_actions: expected a whole number from 1"):
            parse_message({"first_actions": wrong}, session="robot")


def test_a_batch_has_no_first_actions_and_a_record_does_not_ask_for_them():
    message = {"state": np.zeros((2, 3)), "batch": 2, "first_actions": 1}
    works, _ = parse_works(message, session="robot")
    assert [work.first_actions for work in works] == [None, None]
    assert all(set(work.observation) == {"state"} for work in works)
    assert "first_actions" not in message_of(parse_message({"first_actions": 1}, session="robot"))


# handlers


class FirstPolicy(FakePolicy):
    """Gives the first steps of its chunk, then waits for `rest`."""

    spec = dataclasses.replace(SPEC, supports=("first_actions",))

    def __init__(self, *, gate=None):
        super().__init__()
        self.is_asked = False
        self.rest = gate
        self.has_given = threading.Semaphore(0)

    def infer_with_first(self, observation, controls, steps, first):
        self.is_asked = True
        chunk = np.tile(np.asarray(observation["state"], np.float32), (3, 1))
        first(chunk[:steps])
        if "again" in observation:
            first(chunk[:steps])
        self.has_given.release()
        if self.rest is not None:
            assert self.rest.wait(WAIT)
        if "explode" in observation:
            raise RuntimeError("the model exploded")
        return ActionResult(actions=chunk, infer_ms=1.0)


def wants(steps=2, **more):
    observation = {"state": np.array([1.0, 2.0]), **more.pop("observation", {})}
    return dataclasses.replace(make_work(observation, **more), first_actions=steps)


def run(handler, works, got):
    """Runs a batch; `got` takes the first actions, with the index of their work."""
    decoded = [Decoding(one.observation, lambda: 0.0).result() for one in works]
    return run_batch(handler, works, decoded, lambda: 0.0, lambda *given: got.append(given))


def test_only_the_works_that_ask_get_first_actions_and_those_run_alone():
    handler = ActionHandler(FirstPolicy())
    asking, plain = wants(), make_work()
    assert handler.batch_key(asking) != handler.batch_key(wants())
    assert handler.batch_key(asking) == handler.batch_key(asking)
    assert handler.batch_key(plain) == handler.batch_key(make_work())
    got = []
    for work in (plain, asking):
        (answer,) = run(handler, [work], got).answers
        assert isinstance(answer, Reply)
    assert [(index, first["actions"].tolist()) for index, first in got] == [(0, [[1, 2]] * 2)]
    assert got[0][1]["actions"].dtype == np.float64


def test_a_work_before_that_cannot_be_read_shifts_nothing():
    broken = make_work({"image": {"__image__": "jpeg", "data": b"none"}})
    got = []
    handler = ActionHandler(FirstPolicy())
    run(handler, [broken, wants()], got)
    assert [index for index, _ in got] == [1]


def test_a_policy_that_knows_no_first_actions_shares_its_batches():
    handler = ActionHandler(FakePolicy())
    assert handler.batch_key(wants()) == handler.batch_key(make_work())
    got = []
    ran = run(handler, [wants()], got)
    assert got == []
    assert isinstance(ran.answers[0], Reply)


def test_a_robot_with_a_shadow_gets_its_first_actions():
    handler = ShadowingHandler(ActionHandler(FirstPolicy()), ActionHandler(FakePolicy()))
    got = []
    run(handler, [wants()], got)
    assert len(got) == 1


def test_numbers_that_are_not_finite_never_leave():
    got = []
    broken = wants(observation={"state": np.array([np.nan, 0.0])})
    ran = run(ActionHandler(FirstPolicy()), [broken], got)
    assert got == []
    assert ran.answers[0].code is ErrorCode.INTERNAL


# the slot


@pytest.fixture
def slot():
    slot = logged_slot()
    slot.policy = FirstPolicy(gate=threading.Event())
    slot.told = []
    slot.subscribe(slot.told.append)
    open_with(slot, ActionHandler(slot.policy))
    yield slot
    slot.policy.rest.set()
    assert slot.close(grace=WAIT)


def receive(slot, *, respond_first, is_cancelled=lambda: False, **more):
    inbox = Inbox()
    message = {"state": np.array([1.0, 2.0]), "first_actions": 2, **more}
    slot.receive(
        lambda: message,
        client=CLIENT,
        session="robot",
        respond=inbox,
        is_cancelled=is_cancelled,
        respond_first=respond_first,
    )
    return inbox


def test_first_actions_leave_while_the_handler_runs(slot):
    first = []
    inbox = receive(slot, respond_first=first.append)
    wait_until(lambda: first)
    assert inbox.answers == []
    slot.policy.rest.set()
    reply = inbox.wait()
    assert first[0]["actions"].tolist() == reply.result["actions"][:2].tolist()
    timing = reply.result["server_timing"]
    assert timing["first_actions_ms"] >= 0
    (answered,) = [event for event in slot.told if isinstance(event, events.Answered)]
    assert answered.timing.first_ms == timing["first_actions_ms"]


def test_first_actions_are_sent_once_whatever_the_policy_does(slot):
    first = []
    slot.policy.rest.set()
    assert isinstance(receive(slot, respond_first=first.append, again=True).wait(), Reply)
    assert len(first) == 1


def test_a_transport_without_first_actions_gets_the_answer_alone(slot):
    slot.policy.rest.set()
    reply = receive(slot, respond_first=None).wait()
    assert len(reply.result["actions"]) == 3
    assert "first_actions_ms" not in reply.result["server_timing"]


def test_a_policy_that_fails_after_its_first_actions_fails_the_request(slot):
    first = []
    slot.policy.rest.set()
    failure = receive(slot, respond_first=first.append, explode=True).wait()
    assert failure.code is ErrorCode.INTERNAL
    assert len(first) == 1


def test_a_client_that_left_gets_no_first_actions(slot):
    first = []
    slot.policy.rest.set()
    inbox = receive(slot, respond_first=first.append, is_cancelled=lambda: slot.policy.is_asked)
    assert isinstance(inbox.wait(), Reply)
    assert first == []


def test_a_transport_that_cannot_take_them_loses_first_actions_only(slot):
    def fail(first):
        raise OSError("no such wire")

    slot.policy.rest.set()
    assert isinstance(receive(slot, respond_first=fail).wait(), Reply)
    assert [event for event in slot.told if isinstance(event, events.AnswerLost)]


def test_what_was_given_up_sends_nothing_more():
    now = [0.0]
    slot = logged_slot(give_up_after=9.0, clock=lambda: now[0])

    class Late(FirstPolicy):
        def infer_with_first(self, observation, controls, steps, first):
            self.has_given.release()
            assert self.rest.wait(WAIT)
            first(np.zeros((steps, 2)))
            self.has_given.release()
            return ActionResult(actions=np.zeros((3, 2)), infer_ms=1.0)

    policy, first = Late(gate=threading.Event()), []
    open_with(slot, ActionHandler(policy))
    inbox = receive(slot, respond_first=first.append)
    assert policy.has_given.acquire(timeout=WAIT)
    now[0] = 9.0
    # a change of settings makes it look at the clock
    slot.max_wait = 0.0
    assert inbox.wait().code is ErrorCode.INTERNAL
    policy.rest.set()
    assert policy.has_given.acquire(timeout=WAIT)
    wait_until(lambda: slot.not_ready_because is None)
    assert first == []
    slot.close(grace=WAIT)


def test_a_stop_waits_for_the_rest(slot):
    first = []
    inbox = receive(slot, respond_first=first.append)
    assert slot.policy.has_given.acquire(timeout=WAIT)
    slot.stop_accepting()
    slot.policy.rest.set()
    assert slot.close(grace=WAIT)
    assert isinstance(inbox.wait(), Reply)
    assert len(first) == 1


# on the wire


MODULE = """
    import threading
    import numpy as np

    rest = threading.Event()

    class Streams:
        metadata = {
            "inputs": [{"path": ["state"], "kind": "vector", "shape": [2]}], "robot": "two_joints",
        }
        def warm_up(self):
            pass
        def infer(self, observation):
            return {"actions": np.tile(observation["state"], (4, 1))}
        def infer_stream(self, observation):
            chunk = np.tile(observation["state"], (4, 1))
            if "nan" in observation:
                yield {"actions": np.full((2, 2), np.nan)}
            yield {"actions": chunk[:2]}
            rest.wait(20)
            if "explode" in observation:
                raise RuntimeError("boom")
            yield {"actions": chunk, "note": "whole"}
"""
STATE = {"state": np.array([1.0, 2.0])}


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    """A server of the module's policy, whose stream ends when `rest` is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_streams.py").write_text(textwrap.dedent(MODULE))
    values = {
        "action": {"model_config_name": "python:own_streams:Streams"},
        "action_transport": {
            "websocket_port": 0,
            "quic_port": 0,
            "unix_socket_path": str(tmp_path / "s") if len(str(tmp_path)) < 90 else None,
        },
        "host": "127.0.0.1",
        "state_dir": str(tmp_path / "state"),
    }
    service = Service(parse(values))
    service.load()
    endpoint = service.endpoints["action"]
    endpoint.rest = sys.modules["own_streams"].rest
    yield endpoint
    endpoint.rest.set()
    service.close(grace=5)
    del sys.modules["own_streams"]


@pytest.fixture
def client(endpoint):
    with FlashTransportPolicy(
        "127.0.0.1", endpoint.quic.port, server_fingerprint=endpoint.quic.fingerprint
    ) as client:
        assert "first_actions" in client.get_server_metadata()["supports"]
        yield client


def test_the_first_actions_are_there_before_the_policy_has_the_rest(endpoint, client):
    future = client.submit(STATE, WAIT, first_actions=2)
    assert future.first_actions.result(WAIT)["actions"].tolist() == [[1.0, 2.0]] * 2
    assert not future.done()
    endpoint.rest.set()
    answer = future.result(WAIT)
    assert answer["actions"].tolist() == [[1.0, 2.0]] * 4
    assert answer["note"] == "whole"
    assert future.stats.first_action_ms < future.stats.round_trip_ms
    assert answer["server_timing"]["first_actions_ms"] > 0


def test_a_number_that_is_not_finite_fails_the_request_before_a_step_is_sent(endpoint, client):
    endpoint.rest.set()
    future = client.submit({**STATE, "nan": True}, WAIT, first_actions=2)
    for one in (future.first_actions, future):
        with pytest.raises(ServerError, match="not finite"):
            one.result(WAIT)
    # the policy goes on
    assert client.submit(STATE, WAIT, first_actions=2).result(WAIT)["note"] == "whole"


def test_an_error_after_first_actions_reaches_the_client(endpoint, client):
    future = client.submit({**STATE, "explode": True}, WAIT, first_actions=2)
    assert len(future.first_actions.result(WAIT)["actions"]) == 2
    endpoint.rest.set()
    with pytest.raises(ServerError, match="boom"):
        future.result(WAIT)


def test_a_client_may_cancel_after_its_first_actions(endpoint, client):
    future = client.submit(STATE, WAIT, first_actions=2)
    future.first_actions.result(WAIT)
    assert future.cancel()
    endpoint.rest.set()
    assert client.submit(STATE, WAIT, first_actions=2).result(WAIT)["note"] == "whole"


def test_who_does_not_ask_is_answered_as_before(endpoint, client):
    assert "note" not in client.infer(STATE, WAIT), "infer and not infer_stream"
    with WebsocketPolicy("127.0.0.1", endpoint.websocket.port) as websocket:
        future = websocket.submit(STATE, WAIT, first_actions=2)
        assert len(future.result(WAIT)["actions"]) == 4
        # a client of another kind that asks: the WebSocket sends no first actions
        endpoint.rest.set()
        assert websocket.infer({**STATE, "first_actions": 2}, WAIT)["note"] == "whole"


def test_the_unix_socket_sends_first_actions_too(endpoint):
    if endpoint.local is None:
        pytest.skip("the path of the test's directory is too long for a socket")
    with FlashTransportPolicy(f"unix:{endpoint.local.path}") as client:
        client.get_server_metadata()
        future = client.submit(STATE, WAIT, first_actions=2)
        assert len(future.first_actions.result(WAIT)["actions"]) == 2
        assert not future.done()
        endpoint.rest.set()
        assert len(future.result(WAIT)["actions"]) == 4


def test_the_test_command_reports_the_time_to_the_first_action(endpoint):
    endpoint.rest.set()
    command = ["test", "quic", "127.0.0.1", "--port", str(endpoint.quic.port), "-n", "3"]
    result = CliRunner().invoke(app, [*command, "--first-actions", "2"])
    assert result.exit_code == 0, result.output
    assert "3 of 3 ahead of the rest" in result.output
    told = json.loads(CliRunner().invoke(app, [*command, "--first-actions", "2", "--json"]).stdout)
    assert told["first_actions_ahead"] == 3
    assert told["times_ms"]["first"]["p50"] <= told["times_ms"]["total"]["p50"]
    plain = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert "first" not in plain["times_ms"]

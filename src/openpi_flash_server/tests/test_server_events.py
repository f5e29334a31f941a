"""What a slot tells its listeners, and what the tally makes of it."""

import threading

import numpy as np
import pytest
from server_fakes import CLIENT, WAIT, FakePolicy, Inbox, logged_slot, open_with

from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.events import (
    Answered,
    AnswerLost,
    Dropped,
    Received,
    SessionEnded,
    Started,
)
from openpi_flash_server.slot.scheduler import DropReason
from openpi_flash_server.slot.tally import Outcome, Tally


class Resets(ActionHandler):
    def __init__(self, policy):
        super().__init__(policy)
        self.order = policy.seen

    def reset(self, session):
        self.order.append(f"reset {session}")


class Told:
    """A slot, and every event that it told."""

    def __init__(self, *, gated=False):
        self.events = []
        self.policy = FakePolicy(gate=threading.Event() if gated else None)
        self.slot = logged_slot()
        self.slot.subscribe(self.events.append)
        open_with(self.slot, Resets(self.policy))

    def send(self, message=None, *, client=CLIENT, session="robot", respond=None):
        inbox = respond or Inbox()
        self.slot.receive(
            lambda: {"state": np.zeros(2)} if message is None else message,
            client=client,
            session=session,
            respond=inbox,
            is_cancelled=lambda: False,
        )
        return inbox

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def told():
    made = []

    def make(**options):
        made.append(Told(**options))
        return made[-1]

    yield make
    for one in made:
        if one.policy.gate is not None:
            one.policy.gate.set()
        assert one.slot.close(grace=WAIT)


def test_an_answered_request_is_received_started_and_answered(told):
    one = told()
    reply = one.send({"state": np.zeros(2), "observation_stamp": 5}).wait()
    received, started, answered = one.events
    assert isinstance(received, Received)
    assert received.works[0].observation_stamp == 5
    assert (started.requests, started.size) == ((1,), 1)
    assert isinstance(started, Started)
    assert isinstance(answered, Answered)
    assert answered.answer is reply
    assert answered.timing.batch_size == 1
    assert received.at <= started.at <= answered.at


def test_every_request_ends_once_whatever_becomes_of_it(told):
    one = told(gated=True)
    inboxes = [one.send()]
    assert one.policy.entered.acquire(timeout=WAIT)
    inboxes += [one.send() for _ in range(3)]
    inboxes += [one.send({}), one.send([])]
    one.policy.gate.set()
    for inbox in inboxes:
        inbox.wait()
    ended = [event.request for event in one.of(Dropped) + one.of(Answered)]
    assert sorted(ended) == [event.request for event in one.of(Received)] == list(range(1, 7))
    assert {event.reason for event in one.of(Dropped)} == {DropReason.SUPERSEDED}


def test_a_session_ends_when_its_last_client_leaves_and_its_waiting_request_is_dropped(told):
    one = told(gated=True)
    running = one.send(session="other", client=Client("b#2", "b"))
    assert one.policy.entered.acquire(timeout=WAIT)
    waiting = one.send()
    one.slot.client_left(CLIENT)
    assert waiting.wait().code == "superseded"
    assert [event.session for event in one.of(SessionEnded)] == ["robot"]
    one.policy.gate.set()
    running.wait()
    # a policy that knows no sessions is in the middle of another client's episode
    assert not any(isinstance(seen, str) for seen in one.policy.seen)


def test_a_session_that_two_clients_use_outlives_one_of_them(told):
    one, second = told(), Client("b#2", "b")
    one.send().wait()
    one.send(client=second).wait()
    one.slot.client_left(CLIENT)
    assert one.of(SessionEnded) == []
    one.slot.client_left(second)
    assert len(one.of(SessionEnded)) == 1


def test_a_reset_comes_after_the_requests_before_it_and_before_those_after_it(told):
    one = told(gated=True)
    before = one.send({"state": np.full(2, 1.0)})
    assert one.policy.entered.acquire(timeout=WAIT)
    one.slot.reset("robot")
    after = one.send({"state": np.full(2, 2.0)})
    one.policy.gate.set()
    before.wait()
    after.wait()
    order = [seen if isinstance(seen, str) else seen["state"][0] for seen in one.policy.seen]
    assert order == [1.0, "reset robot", 2.0]


def test_a_listener_that_fails_harms_neither_requests_nor_other_listeners(told, caplog):
    one = told()
    seen = []

    def broken(event):
        raise RuntimeError("listener is broken")

    one.slot.subscribe(broken)
    one.slot.subscribe(seen.append)
    one.send().wait()
    assert len(seen) == 3
    assert "listener is broken" in caplog.text


def test_an_answer_that_the_transport_cannot_take_is_told(told):
    one, tried = told(), threading.Event()

    def respond(answer):
        tried.set()
        raise OSError("no route")

    one.send(respond=respond)
    assert tried.wait(WAIT)
    one.send().wait()
    assert [str(event.error) for event in one.of(AnswerLost)] == ["no route"]


def test_the_tally_counts_each_end_and_measures_answers(told):
    one, tally = told(gated=True), Tally(0.0)
    inboxes = [one.send()]
    assert one.policy.entered.acquire(timeout=WAIT)
    inboxes += [one.send() for _ in range(2)]
    inboxes += [one.send([]), one.send({"state": np.zeros(2), "explode": 1}, session="other")]
    one.policy.gate.set()
    for inbox in inboxes:
        inbox.wait()
    for event in one.events:
        tally.count(event)
    summary = tally.take(10.0)
    assert (summary.seconds, summary.received) == (10.0, 5)
    assert summary.outcomes == {
        Outcome.ANSWERED: 2,
        Outcome.SUPERSEDED: 1,
        Outcome.REFUSED: 1,
        Outcome.FAILED: 1,
    }
    assert summary.infer_ms.p99 > 0
    assert tally.take(20.0) is None

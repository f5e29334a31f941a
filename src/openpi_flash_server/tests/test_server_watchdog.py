"""A model that hangs, fails or answers NaN fails its requests, and the rest goes on."""

import threading

import numpy as np
import pytest
from served_slot import wait_until
from server_fakes import CLIENT, WAIT, FakePolicy, Inbox, logged_slot, make_work, open_with

from openpi_flash_models.policy.policy_protocol import ActionResult
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.slot import events
from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply
from openpi_flash_server.slot.health import FAILURES, SUCCESSES
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.ticket import Ticket
from openpi_flash_server.slot.vital_thread import vital_thread

LIMIT = 9.0
"""s of a clock that only the test moves."""


class HangingPolicy(FakePolicy):
    """Hangs on the observations that say so, until `gate` is opened."""

    def __init__(self):
        super().__init__()
        self.come_back = threading.Event()

    def infer(self, observation, controls=None):
        if "hang" in observation:
            self.entered.release()
            assert self.come_back.wait(WAIT)
        return super().infer(observation, controls)


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def slot():
    time = Time()
    slot = logged_slot(give_up_after=LIMIT, clock=time)
    slot.time = time
    slot.policy = HangingPolicy()
    slot.told = []
    slot.subscribe(slot.told.append)
    open_with(slot, ActionHandler(slot.policy))
    yield slot
    slot.policy.come_back.set()
    slot.close(grace=WAIT)


def ask(slot, *, session="robot", **observation):
    inbox = Inbox()
    now = slot.clock()
    work = make_work({"state": np.ones(2), **observation}, session=session)
    slot.submit(Ticket((work,), False, CLIENT, now, 0.0, None, inbox, lambda: False))
    return inbox


def hang(slot):
    """A request that is given up."""
    inbox = ask(slot, hang=True)
    assert slot.policy.entered.acquire(timeout=WAIT)
    give_up(slot)
    return inbox


def give_up(slot):
    slot.time.now += LIMIT
    # a change of settings makes it look at the clock
    slot.max_wait = 0.0


def test_a_request_that_hangs_is_given_up_and_no_other_waits_for_it(slot):
    hung = ask(slot, hang=True)
    assert slot.policy.entered.acquire(timeout=WAIT)
    waiting = ask(slot, session="other")
    slot.time.now += LIMIT - 0.1
    slot.max_wait = 0.0
    assert not hung.answers
    assert not waiting.answers
    give_up(slot)
    reason = "the model has not answered for 9 s"
    assert hung.wait() == Failure(ErrorCode.INTERNAL, reason)
    assert waiting.wait() == Failure(ErrorCode.NOT_READY, reason)
    assert ask(slot).wait() == Failure(ErrorCode.NOT_READY, reason)
    assert slot.unhealthy_because == slot.trouble_because == reason
    assert len([event for event in slot.told if isinstance(event, events.GivenUp)]) == 1


def test_a_model_that_comes_back_answers_again_and_its_late_answer_is_dropped(slot):
    hung = hang(slot)
    assert isinstance(hung.wait(), Failure)
    slot.policy.come_back.set()
    wait_until(lambda: slot.not_ready_because is None)
    assert isinstance(ask(slot).wait(), Reply)
    assert len(hung.answers) == 1
    assert slot.unhealthy_because is None


def test_another_model_takes_the_place_of_one_that_hangs(slot):
    assert isinstance(hang(slot).wait(), Failure)
    other = FakePolicy()
    former = slot.replace(OwnThread("other", ActionHandler(other)))
    assert isinstance(ask(slot).wait(), Reply)
    assert (slot.stage, slot.unhealthy_because, len(other.seen)) == (Stage.READY, None, 1)
    assert not former.close(0)
    slot.policy.come_back.set()
    assert former.close(WAIT)
    # the late end of the former changes nothing
    assert isinstance(ask(slot).wait(), Reply)


def test_a_stop_does_not_wait_for_a_model_that_hangs(slot):
    assert isinstance(hang(slot).wait(), Failure)
    assert not slot.close(grace=10 * WAIT)


def test_a_large_request_that_hangs_is_answered_once(slot):
    inbox, work = Inbox(), make_work({"state": np.ones(2), "hang": True})
    ticket = Ticket((work,) * 3, True, CLIENT, slot.clock(), 0.0, None, inbox, lambda: False)
    slot.submit(ticket)
    assert slot.policy.entered.acquire(timeout=WAIT)
    give_up(slot)
    assert inbox.wait().code is ErrorCode.INTERNAL
    slot.policy.come_back.set()
    wait_until(lambda: slot.not_ready_because is None)
    assert len(inbox.answers) == 1


def test_a_model_that_fails_each_time_is_unhealthy_and_takes_requests_until_it_is_well(slot):
    for _ in range(FAILURES):
        assert slot.unhealthy_because is None
        assert ask(slot, explode="at once").wait().code is ErrorCode.INTERNAL
    wait_until(lambda: slot.unhealthy_because is not None)
    assert "the model exploded" in slot.unhealthy_because
    assert (slot.not_ready_because, slot.trouble_because) == (None, None)
    for _ in range(SUCCESSES):
        assert isinstance(ask(slot).wait(), Reply)
    wait_until(lambda: slot.unhealthy_because is None)


def test_requests_that_are_wrong_say_nothing_about_the_model(slot):
    for _ in range(2 * FAILURES):
        assert ask(slot, state=np.ones(3)).wait().code is ErrorCode.BAD_REQUEST
    assert slot.unhealthy_because is None


def test_actions_that_are_not_finite_count_as_failures(slot):
    slot.policy.infer = lambda *_: ActionResult(np.full((3, 2), np.nan, np.float32), 1.0)
    for _ in range(FAILURES):
        assert ask(slot).wait().code is ErrorCode.INTERNAL
    wait_until(lambda: slot.unhealthy_because is not None)


def test_a_thread_that_dies_is_noticed_and_named(slot, caplog):
    def run():
        raise RuntimeError("no more memory")

    thread = vital_thread("quic-action", run, slot.has_trouble)
    thread.start()
    thread.join(WAIT)
    expected = "the thread quic-action died: RuntimeError: no more memory"
    assert slot.trouble_because == slot.unhealthy_because == expected
    assert slot.stage is Stage.FAILED
    assert "thread died, restart the server" in caplog.text
    assert isinstance(ask(slot).wait(), Reply)

"""Replicas behind a slot: places, lost ones, hanging ones, sessions, draining. Without Ray."""

import dataclasses
import math
import threading

import numpy as np
import pytest
from fake_replicas import FakeEngine
from served_slot import wait_until
from server_fakes import (
    CLIENT,
    SPEC,
    WAIT,
    FakeBatchPolicy,
    FakePolicy,
    Inbox,
    logged_slot,
)

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.replicas import pool
from openpi_flash_server.replicas.engine import LoadFailed
from openpi_flash_server.replicas.policy_process import ForeignError, portable
from openpi_flash_server.replicas.replicas import Replicas
from openpi_flash_server.replicas.replicated_policy import ReplicatedPolicy
from openpi_flash_server.runners.replica_runner import ReplicaRunner
from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply


class Bench:
    """A slot on replicas of fake policies, each with a gate of its own."""

    def __init__(self, count=2, *, policy=FakePolicy, gated=False, keeps_state=False, **options):
        self.policies = {}

        def make(number):
            gate = threading.Event() if gated else None
            self.policies[number] = policy(gate=gate)
            return self.policies[number]

        self.engine = FakeEngine(make, is_prompt=False, keeps_state=keeps_state)
        self.replicas = Replicas(self.engine, count, **options)
        # in order: calls go to the replica that is idle for longest
        for _ in range(count):
            self.engine.come_up()
        self.engine.is_prompt = True
        self.policy = ReplicatedPolicy(self.replicas)
        self.runner = ReplicaRunner("slot-action", ActionHandler(self.policy), self.replicas)
        self.slot = logged_slot()
        self.slot.open(self.runner)

    def ask(self, session="robot", **message):
        inbox = Inbox()
        self.slot.receive(
            lambda: {"state": np.ones(2), "session": session, **message},
            client=CLIENT,
            session=session,
            respond=inbox,
            is_cancelled=lambda: False,
        )
        return inbox

    def entered(self, number):
        """Waits until the policy of a replica runs a request."""
        wait_until(lambda: number in self.policies)
        assert self.policies[number].entered.acquire(timeout=WAIT)

    def replica(self, number):
        return self.engine.replicas[number - 1]

    def open_gates(self):
        for policy in self.policies.values():
            if policy.gate is not None:
                policy.gate.set()

    def close(self):
        self.open_gates()
        self.slot.close(grace=WAIT)
        self.replicas.close()


@pytest.fixture
def bench():
    benches = []

    def make(*arguments, **options):
        benches.append(Bench(*arguments, **options))
        return benches[-1]

    yield make
    for one in benches:
        one.close()


def test_sessions_run_at_the_same_time_on_as_many_replicas(bench):
    here = bench(3, gated=True)
    inboxes = [here.ask(session) for session in "abc"]
    for number in (1, 2, 3):
        here.entered(number)
    waiting = here.ask("d")
    assert here.slot.waiting == 1
    here.open_gates()
    answers = [inbox.wait() for inbox in (*inboxes, waiting)]
    assert all(isinstance(answer, Reply) for answer in answers)
    assert [policy.most_running for policy in here.policies.values()] == [1, 1, 1]


def test_one_session_has_one_request_running_and_its_newest_waiting(bench):
    here = bench(2, gated=True)
    first, old, new = (here.ask("arm") for _ in range(3))
    assert old.wait().code is ErrorCode.SUPERSEDED
    here.open_gates()
    assert isinstance(first.wait(), Reply)
    assert isinstance(new.wait(), Reply)


def test_a_request_on_a_replica_that_dies_is_answered_by_another(bench):
    here = bench(2, gated=True)
    first, second = here.ask("a"), here.ask("b")
    here.entered(1)
    here.entered(2)
    here.replica(1).die("died of signal 9")
    wait_until(lambda: here.replicas.counts.ready == 2)
    here.entered(3)
    here.open_gates()
    assert isinstance(second.wait(), Reply)
    assert isinstance(first.wait(), Reply)
    assert here.replicas.counts.lost == 1
    assert len(here.engine.replicas) == 3


def test_a_request_that_kills_two_replicas_fails_with_the_reason(bench):
    here = bench(3, gated=True)
    poison = here.ask("a")
    here.entered(1)
    here.replica(1).die("died of signal 9")
    wait_until(lambda: any(here.replica(number).calls for number in (2, 3)))
    second = next(number for number in (2, 3) if here.replica(number).calls)
    here.entered(second)
    here.replica(second).die("died of signal 9")
    answer = poison.wait()
    assert answer == Failure(
        ErrorCode.INTERNAL, "the replica was lost: died of signal 9, as was the one before it"
    )


def test_while_no_replica_is_ready_requests_are_refused_and_health_says_why(bench):
    here = bench(1)
    here.engine.is_prompt = False
    here.replica(1).die("the machine is gone")
    because = "none of 1 replicas is ready: the machine is gone"
    assert here.slot.unhealthy_because == here.slot.not_ready_because == because
    assert here.ask().wait() == Failure(ErrorCode.NOT_READY, because)
    here.engine.come_up()
    assert here.slot.unhealthy_because is None
    assert isinstance(here.ask().wait(), Reply)


def test_requests_that_wait_when_the_last_replica_dies_are_refused_as_not_begun(bench):
    here = bench(1, gated=True)
    running, waiting = here.ask("a"), here.ask("b")
    here.entered(1)
    here.engine.is_prompt = False
    here.replica(1).die()
    assert waiting.wait().code is ErrorCode.NOT_READY
    here.engine.come_up()
    here.entered(2)
    here.open_gates()
    assert isinstance(running.wait(), Reply)


def test_a_replica_that_hangs_is_killed_and_its_request_fails(bench):
    here = bench(2, gated=True, longest_call=0.05)
    inbox = here.ask()
    answer = inbox.wait()
    assert answer == Failure(ErrorCode.INTERNAL, "the model has not answered for 0.05 s")
    assert here.replica(1).is_killed
    assert not here.slot.hangs
    wait_until(lambda: here.replicas.counts.ready == 2)


def test_an_error_of_the_policy_is_the_answer_and_the_replica_goes_on(bench):
    here = bench(1)
    refused, failed, answered = here.ask(state=np.ones(3)), None, None
    assert refused.wait().code is ErrorCode.BAD_REQUEST
    failed = here.ask(explode="now").wait()
    assert (failed.code, failed.message) == (
        ErrorCode.INTERNAL,
        "RuntimeError: the model exploded: now",
    )
    assert "In the process of the replica:" in failed.traceback
    answered = here.ask().wait()
    assert isinstance(answered, Reply)
    assert here.replicas.counts.lost == 0


def test_a_batch_goes_to_one_replica_in_one_call(bench):
    here = bench(1, policy=FakeBatchPolicy, gated=True)
    first = here.ask("a")
    here.entered(1)
    rest = [here.ask(session) for session in "bcd"]
    here.open_gates()
    assert all(isinstance(inbox.wait(), Reply) for inbox in (first, *rest))
    assert here.policies[1].sizes == [1, 3]
    assert here.policy.max_batch == FakeBatchPolicy.max_batch


def test_sessions_of_a_policy_with_state_stay_where_it_is(bench):
    here = bench(2, keeps_state=True)
    for _ in range(3):
        for session in "ab":
            assert isinstance(here.ask(session).wait(), Reply)
    assert [here.replica(number).calls for number in (1, 2)] == [3, 3]
    here.slot.reset("a")
    assert sum(here.replica(number).resets for number in (1, 2)) == 1


def test_a_session_waits_for_its_own_replica_and_others_go_on(bench):
    here = bench(2, keeps_state=True, gated=True)
    first, other = here.ask("a"), here.ask("b")
    here.entered(1)
    here.entered(2)
    sharing = here.ask("c")
    here.policies[2].gate.set()
    assert isinstance(other.wait(), Reply)
    assert isinstance(sharing.wait(), Reply)
    assert here.replicas.home("c") == here.replicas.home("b") == 2
    again = here.ask("a")
    assert here.slot.waiting == 1
    here.open_gates()
    assert isinstance(first.wait(), Reply)
    assert isinstance(again.wait(), Reply)
    assert here.replica(1).calls == 2


def test_a_replica_with_state_that_dies_fails_its_requests_and_the_session_begins_anew(bench):
    here = bench(2, keeps_state=True, gated=True)
    inbox = here.ask("a")
    here.entered(1)
    here.replica(1).die()
    answer = inbox.wait()
    assert answer.code is ErrorCode.INTERNAL
    assert answer.message.endswith("the session's state is gone with it, it begins anew")
    here.policies[2].gate.set()
    assert isinstance(here.ask("a").wait(), Reply)


def test_scaling_down_answers_what_runs_and_scaling_up_takes_more(bench):
    here = bench(2, gated=True)
    inboxes = [here.ask(session) for session in "ab"]
    here.entered(1)
    here.entered(2)
    here.replicas.resize(1)
    assert here.replicas.counts.stopping == 1
    waiting = here.ask("c")
    here.open_gates()
    for inbox in (*inboxes, waiting):
        assert isinstance(inbox.wait(), Reply)
    assert sum(one.is_stopped for one in here.engine.replicas) == 1
    here.replicas.resize(3)
    wait_until(lambda: here.replicas.counts.ready == 3)
    assert here.runner.places == 3


def test_a_slot_that_drains_answers_every_request_that_it_accepted(bench):
    here = bench(2, gated=True)
    inboxes = [here.ask(session) for session in "abcde"]
    threading.Timer(0.05, here.open_gates).start()
    assert here.slot.close(grace=WAIT)
    assert all(isinstance(inbox.wait(), Reply) for inbox in inboxes)


def test_kills_under_load_lose_no_request(bench):
    here = bench(3)
    inboxes = []
    for turn in range(40):
        inboxes += [here.ask(f"{turn}-{number}") for number in range(5)]
        if turn % 8 == 4:
            next(one for one in here.engine.replicas if not one.is_killed).die()
        for inbox in inboxes[-5:]:
            inbox.wait()
    answers = [inbox.wait() for inbox in inboxes]
    assert len(answers) == 200
    assert sum(isinstance(answer, Reply) for answer in answers) == 200


def test_a_policy_that_cannot_be_loaded_ends_the_start_with_its_error():
    def make(number):
        raise ObservationError("checkpoint", "is not there")

    engine = FakeEngine(make)
    replicas = Replicas(engine, 2)
    with pytest.raises(LoadFailed, match="checkpoint: is not there"):
        ReplicatedPolicy(replicas)
    replicas.close()
    assert engine.is_closed
    # the other one may come up only now
    wait_until(lambda: all(one.is_killed or one.is_stopped for one in engine.replicas))


def test_a_cluster_that_is_gone_for_a_while_is_asked_again(bench, monkeypatch):
    monkeypatch.setattr(pool, "FIRST_PAUSE", 0.01)
    here = bench(1)
    start, tries = here.engine.start, []

    def fail_twice(*arguments):
        tries.append(arguments)
        if len(tries) < 3:
            raise ConnectionError("the cluster is gone")
        return start(*arguments)

    here.engine.start = fail_twice
    here.replica(1).die()
    wait_until(lambda: here.replicas.counts.ready == 1)
    assert len(tries) == 3
    assert isinstance(here.ask().wait(), Reply)


def test_a_replica_of_another_checkpoint_is_not_used(bench):
    here = bench(1)
    here.engine.make_policy = lambda number: type(
        "Wider", (FakePolicy,), {"spec": dataclasses.replace(SPEC, action_dim=7)}
    )()
    here.replicas.resize(2)
    wait_until(lambda: here.replicas.counts.lost >= 1)
    assert here.replicas.counts.ready == 1
    assert isinstance(here.ask().wait(), Reply)


def test_requests_under_way_fail_when_the_replicas_are_ended(bench):
    here = bench(1, gated=True)
    inbox = here.ask()
    here.entered(1)
    here.replicas.close()
    assert inbox.wait() == Failure(ErrorCode.INTERNAL, "the replicas were ended")


def test_a_call_asks_its_replica_once(bench):
    here = bench(1)
    call = here.replicas.begin(["a"], math.inf)
    with here.replicas.running(call):
        assert here.policy.infer({"state": np.ones(2)}).actions.shape == (3, 2)
        with pytest.raises(Exception, match="a call asked its replica twice"):
            here.policy.infer({"state": np.ones(2)})


def test_an_error_that_cannot_be_pickled_goes_to_the_front_as_its_text():
    class LocalError(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    copy = portable(LocalError(1, 2))
    assert isinstance(copy, ForeignError)
    assert str(copy) == "LocalError: 1 and 2"
    kept = portable(RuntimeError("boom"))
    assert type(kept) is RuntimeError
    assert kept.__notes__[0].startswith("In the process of the replica:\n")

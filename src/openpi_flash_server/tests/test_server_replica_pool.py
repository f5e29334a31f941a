"""Which replica runs a call, and what becomes of the calls of one that is lost, in virtual time."""

import random

import pytest

from openpi_flash_server.replicas.pool import (
    FIRST_PAUSE,
    LONGEST_ABSENCE,
    LONGEST_PAUSE,
    MOST_SESSIONS,
    Call,
    Counts,
    Fail,
    Give,
    Kill,
    ReplicaPool,
    Reset,
    Start,
    Stop,
)


def call(*sessions, **options):
    return Call(sessions or ("robot",), **options)


def ready_pool(count, *, keeps_state=False, **options):
    pool = ReplicaPool(**options)
    pool.keeps_state = keeps_state
    for action in pool.resize(count, 0.0):
        pool.is_ready(action.replica, 0.0)
    return pool


def given(actions):
    """The replicas of the calls that are given away, in order."""
    return [action.replica for action in actions if isinstance(action, Give)]


def test_calls_go_to_the_replica_with_the_fewest_and_then_to_the_one_idle_for_longest():
    pool = ready_pool(2, in_flight=2)
    calls = [call() for _ in range(4)]
    assert [given(pool.begin(one, 1.0)) for one in calls] == [[1], [2], [1], [2]]
    assert (pool.free, pool.places) == (0, 4)
    for at, one in enumerate((calls[1], calls[3], calls[0], calls[2])):
        assert pool.answered(one, 2.0 + at) == []
    assert given(pool.begin(call(), 9.0)) == [2]


def test_a_call_without_a_place_waits_for_the_next_replica_that_has_one():
    pool = ready_pool(1)
    first, second, third = call(), call(), call()
    pool.begin(first, 0.0)
    assert pool.begin(second, 0.0) == []
    assert pool.begin(third, 0.0) == []
    assert pool.answered(first, 1.0) == [Give(1, second)]
    assert pool.given_up(third, 1.0) == []
    assert pool.answered(second, 2.0) == []
    assert pool.is_idle


def test_the_calls_of_a_lost_replica_run_on_another_before_those_that_wait():
    pool = ready_pool(2)
    first, second, later = call(), call(), call()
    pool.begin(first, 0.0)
    pool.begin(second, 0.0)
    pool.begin(later, 0.0)
    assert pool.is_lost(1, "killed", 1.0) == [Start(3)]
    assert pool.answered(second, 2.0) == [Give(2, first)]
    assert pool.is_ready(3, 3.0) == [Give(3, later)]
    assert pool.counts == Counts(wanted=2, ready=2, starting=0, stopping=0, lost=1)


def test_a_call_that_loses_two_replicas_fails_and_spares_the_third():
    pool = ready_pool(3)
    poison = call()
    pool.begin(poison, 0.0)
    assert given(pool.is_lost(1, "died of signal 9", 1.0)) == [2]
    (failure,) = [one for one in pool.is_lost(2, "died too", 2.0) if isinstance(one, Fail)]
    assert failure.call is poison
    assert failure.reason == "the replica was lost: died too, as was the one before it"
    assert given(pool.begin(call(), 3.0)) == [3]


def test_a_call_past_its_deadline_is_not_run_again():
    pool = ready_pool(2)
    late = call(deadline=1.0)
    pool.begin(late, 0.0)
    (failure,) = [one for one in pool.is_lost(1, "killed", 1.0) if isinstance(one, Fail)]
    assert (failure.call, failure.is_late) == (late, True)


def test_a_call_that_hangs_costs_its_replica_and_those_behind_it_run_elsewhere():
    pool = ready_pool(2, in_flight=2, longest_call=10.0)
    hanging, other, behind = call("a"), call("b"), call("c")
    for one in (hanging, other, behind):
        pool.begin(one, 0.0)
    pool.answered(other, 1.0)
    assert pool.next_look == 10.0
    assert pool.look(9.9) == []
    kill, failure, start, give = pool.look(10.0)
    assert kill == Kill(1)
    assert (failure.call, failure.reason) == (hanging, "the model has not answered for 10 s")
    assert start == Start(3)
    assert give == Give(2, behind)
    # the thread that waits for the killed process reports it, too
    assert pool.is_lost(1, "killed", 10.1) == []


def test_the_time_of_a_call_counts_from_the_end_of_the_one_before_it():
    pool = ready_pool(1, in_flight=2, longest_call=10.0)
    first, second = call("a"), call("b")
    pool.begin(first, 0.0)
    pool.begin(second, 0.0)
    pool.answered(first, 9.0)
    assert pool.next_look == 19.0


def test_replicas_that_do_not_come_up_are_started_with_pauses_that_double():
    pool = ReplicaPool()
    (start,) = pool.resize(1, 0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        assert pool.is_lost(start.replica, "no memory", now) == []
        pauses.append(pool.next_look - now)
        now = pool.next_look
        (start,) = pool.look(now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (1, 60)
    pool.is_ready(start.replica, now)
    assert pool.is_lost(start.replica, "killed", now) == [Start(10)]


def test_replicas_that_die_before_any_answer_are_started_with_pauses():
    pool = ready_pool(1)
    assert pool.is_lost(1, "died", 0.0) == [Start(2)]
    pool.is_ready(2, 0.0)
    assert pool.is_lost(2, "died", 0.0) == []
    assert pool.next_look == FIRST_PAUSE


def test_without_any_ready_replica_calls_are_refused_with_the_reason_and_those_begun_fail_in_time():
    pool = ready_pool(1)
    waiting = call()
    pool.begin(waiting, 0.0)
    pool.is_lost(1, "the machine is gone", 1.0)
    assert pool.refusal == "none of 1 replicas is ready: the machine is gone"
    assert pool.next_look == 1.0 + LONGEST_ABSENCE
    (failure,) = pool.look(1.0 + LONGEST_ABSENCE)
    assert failure.reason.startswith("no replica has come back for 30 s: none of 1 replicas")
    pool.is_ready(2, 40.0)
    assert pool.refusal is None


def test_replicas_that_leave_run_what_they_were_given_and_take_nothing_more():
    pool = ready_pool(3)
    running = call()
    assert given(pool.begin(running, 0.0)) == [1]
    assert pool.resize(1, 0.0) == [Stop(3), Stop(2)]
    assert given(pool.begin(second := call(), 0.0)) == []
    assert given(pool.answered(running, 1.0)) == [1]
    assert pool.resize(0, 1.0) == []
    assert pool.counts == Counts(wanted=0, ready=0, starting=0, stopping=1, lost=0)
    assert pool.answered(second, 2.0) == [Stop(1)]


def test_a_larger_pool_starts_replicas_and_a_smaller_one_first_forgets_those_that_are_due():
    pool = ready_pool(2)
    assert pool.resize(4, 0.0) == [Start(3), Start(4)]
    pool.is_lost(3, "no memory", 0.0)
    assert pool.counts == Counts(wanted=4, ready=2, starting=2, stopping=0, lost=1)
    assert pool.resize(3, 0.0) == []
    assert pool.counts.starting == 1
    assert pool.look(100.0) == []


def test_a_session_stays_on_the_replica_that_holds_its_state():
    pool = ready_pool(2, keeps_state=True)
    for at in range(4):
        for session, home in (("a", 1), ("b", 2)):
            one = call(session)
            assert given(pool.begin(one, at)) == [home]
            pool.answered(one, at)
    assert (pool.home("a"), pool.home("c")) == (1, None)
    assert given(pool.begin(call("a"), 9.0)) == [1]
    assert not pool.can_begin("a")
    assert pool.can_begin("b")
    assert pool.can_begin("c")


def test_new_sessions_go_to_the_replica_with_the_fewest():
    pool = ready_pool(2, keeps_state=True, in_flight=2)
    for session in "abc":
        pool.begin(call(session), 0.0)
    assert [pool.home(session) for session in "abc"] == [1, 2, 1]
    pool.session_ended("a")
    pool.session_ended("c")
    for replica_call in list(pool._replicas[1].calls):
        pool.answered(replica_call, 1.0)
    assert given(pool.begin(call("d"), 2.0)) == [1]


def test_a_lost_replica_takes_the_state_of_its_sessions_with_it_and_says_so():
    pool = ready_pool(2, keeps_state=True)
    running = call("a")
    pool.begin(running, 0.0)
    actions = pool.is_lost(1, "killed", 1.0)
    (failure,) = [one for one in actions if isinstance(one, Fail)]
    assert failure.call is running
    assert failure.reason.endswith("the session's state is gone with it, it begins anew")
    assert given(pool.begin(call("a"), 2.0)) == [2]


def test_a_reset_comes_after_the_calls_of_its_session_that_were_begun():
    pool = ready_pool(1, keeps_state=True, in_flight=2)
    mine, other = call("a"), call("b")
    pool.begin(mine, 0.0)
    pool.begin(other, 0.0)
    assert pool.reset("a") == []
    assert pool.answered(mine, 1.0) == [Reset(1)]
    assert pool.answered(other, 2.0) == []
    assert pool.reset("b") == [Reset(1)]
    assert pool.reset("unknown") == []


def test_without_state_sessions_have_no_home_and_resets_do_nothing():
    pool = ready_pool(2)
    pool.begin(call("a"), 0.0)
    assert pool.home("a") is None
    assert pool.reset("a") == []


def test_the_session_unused_for_longest_is_forgotten_first():
    pool = ready_pool(1, keeps_state=True)
    for number in range(MOST_SESSIONS + 1):
        one = call(number)
        pool.begin(one, 0.0)
        pool.answered(one, 0.0)
    assert pool.home(0) is None
    assert pool.home(1) == 1


class Storm:
    """A pool whose replicas start, die, hang and leave at random, and every call's end."""

    def __init__(self, in_flight):
        self.random = random.Random(17)
        self.pool = ReplicaPool(in_flight=in_flight, longest_call=5.0)
        self.now = 0.0
        self.begun = self.ended = 0
        self.open, self.running = [], {}
        self.starting, self.alive = [], []
        self.carry_out(self.pool.resize(3, self.now))

    def carry_out(self, actions):
        for action in actions:
            match action:
                case Start(replica):
                    self.starting.append(replica)
                case Give(replica, one):
                    assert replica in self.alive, "it is given to a replica that is gone"
                    self.running[one] = replica
                case Fail(one):
                    self.running.pop(one, None)
                    self.end(one)
                case Stop(replica) | Kill(replica):
                    self.gone(replica)

    def end(self, one):
        self.open.remove(one)
        self.ended += 1

    def gone(self, replica):
        for group in (self.starting, self.alive):
            if replica in group:
                group.remove(replica)
        self.running = {one: on for one, on in self.running.items() if on != replica}

    def begin(self):
        one = call(self.random.randrange(6), deadline=self.now + 20)
        self.open.append(one)
        self.begun += 1
        self.carry_out(self.pool.begin(one, self.now))

    def come_up(self):
        replica = self.starting.pop(0)
        self.alive.append(replica)
        self.carry_out(self.pool.is_ready(replica, self.now))

    def die(self):
        replica = self.random.choice(self.alive + self.starting)
        self.gone(replica)
        self.carry_out(self.pool.is_lost(replica, "killed", self.now))

    def answer(self):
        one = self.random.choice(list(self.running))
        del self.running[one]
        self.end(one)
        self.carry_out(self.pool.answered(one, self.now))

    def step(self):
        self.now += self.random.random()
        match self.random.randrange(12):
            case 0 if self.starting:
                self.come_up()
            case 1 if self.alive or self.starting:
                self.die()
            case 2:
                self.carry_out(self.pool.resize(self.random.randrange(1, 5), self.now))
            case 3:
                self.carry_out(self.pool.look(self.now))
            case 4 | 5 | 6 | 7:
                self.begin()
            case _ if self.running:
                self.answer()

    def calm_down(self):
        while self.open:
            self.now += 1.0
            self.carry_out(self.pool.look(self.now))
            while self.starting:
                self.come_up()
            while self.running:
                self.answer()


@pytest.mark.parametrize("in_flight", [1, 2])
def test_no_call_is_lost_whatever_happens_to_replicas(in_flight):
    storm = Storm(in_flight)
    for _ in range(4000):
        storm.step()
        assert storm.pool.places >= len(storm.open)
    storm.calm_down()
    assert storm.ended == storm.begun > 1000
    assert storm.pool.is_idle

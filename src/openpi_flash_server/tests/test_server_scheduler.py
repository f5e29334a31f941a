"""Who is next: pure, with the time as a number."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from openpi_flash_server.slot.scheduler import DEADLINE_GRACE, Dropped, DropReason, Scheduler

CASES = json.loads(
    (
        Path(__file__).parents[2] / "flash_transport" / "tests" / "data" / "newest_wins.json"
    ).read_text()
)
"""The cases that every line of this repository keeps, the clients' too."""


@dataclasses.dataclass(eq=False)
class Waiting:
    session: str
    deadline: float | None = None
    gone: bool = False
    size: int = 1
    owner: tuple[int | str, ...] = (0, "10.0.0.5", "10.0.0.5:50000#1")
    rank: int = 0
    is_awaited: bool = True

    def is_cancelled(self):
        return self.gone


def take(scheduler, now=0.0):
    """The request that would run now, alone, and those that are dropped; it runs at once."""
    batch = scheduler.next_batch(now, 1, lambda one, other: True)
    scheduler.finished(batch.pieces, now)
    return batch.pieces[0].request if batch.pieces else None, list(batch.dropped)


def served(scheduler, now=0.0):
    """Everything that the scheduler would run, in order."""
    requests = []
    while (request := take(scheduler, now)[0]) is not None:
        requests.append(request)
    return requests


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case["needs"]], ids=lambda case: case["name"]
)
def test_the_newest_request_of_a_session_wins(case):
    scheduler, requests = Scheduler(capacity=8), {}
    for event in case["events"]:
        if event["do"] == "submit":
            request = requests[event["request"]] = Waiting(event["session"])
            superseded = [
                drop.request
                for drop in scheduler.submit(request, 0.0)
                if drop.reason is DropReason.SUPERSEDED
            ]
            assert superseded == [requests[number] for number in event["superseded"]]
        elif event["do"] == "take":
            started = event["started"]
            request, dropped = take(scheduler, 0.0)
            assert request is (None if started is None else requests[started])
            assert all(drop.reason is DropReason.CANCELLED for drop in dropped)
        elif event["do"] == "cancel":
            requests[event["request"]].gone = True
        waiting = [request for request in scheduler.waiting if not request.gone]
        assert waiting == [requests[number] for number in event["waiting"]]


def test_there_are_such_cases():
    assert len([case for case in CASES if not case["needs"]]) >= 10


def test_nothing_waits_at_first():
    assert take(Scheduler(capacity=1)) == (None, [])


def test_first_come_between_sessions_is_first_served():
    scheduler = Scheduler(capacity=8)
    requests = [Waiting(name) for name in "cab"]
    for request in requests:
        assert scheduler.submit(request, 0.0) == []
    assert served(scheduler) == requests


def test_the_newest_observation_of_a_session_replaces_the_one_that_waits():
    scheduler = Scheduler(capacity=8)
    older, newer = Waiting("robot"), Waiting("robot")
    scheduler.submit(older, 0.0)
    assert scheduler.submit(newer, 1.0) == [Dropped(older, DropReason.SUPERSEDED)]
    assert served(scheduler) == [newer]


def test_a_newer_observation_keeps_the_turn_of_the_older():
    scheduler = Scheduler(capacity=8)
    scheduler.submit(Waiting("fast"), 0.0)
    scheduler.submit(Waiting("slow"), 0.0)
    for _ in range(100):
        scheduler.submit(Waiting("fast"), 0.0)
    assert [request.session for request in served(scheduler)] == ["fast", "slow"]


def test_a_session_that_was_served_goes_to_the_back():
    scheduler = Scheduler(capacity=8)
    scheduler.submit(Waiting("fast"), 0.0)
    scheduler.submit(Waiting("slow"), 0.0)
    first, _ = take(scheduler, 0.0)
    scheduler.submit(Waiting("fast"), 0.0)
    assert first.session == "fast"
    assert [request.session for request in served(scheduler)] == ["slow", "fast"]


def test_a_full_scheduler_refuses_the_newcomer_and_keeps_the_others():
    scheduler = Scheduler(capacity=2)
    kept = [Waiting("a"), Waiting("b")]
    for request in kept:
        scheduler.submit(request, 0.0)
    newcomer = Waiting("c")
    assert scheduler.submit(newcomer, 0.0) == [Dropped(newcomer, DropReason.FULL)]
    assert len(scheduler) == 2
    assert served(scheduler) == kept


ROBOT = (0, "10.0.0.5", "10.0.0.5:1#1")
GREEDY = {
    "connection of its computer": (0, "10.0.0.5", "10.0.0.5:2#2"),
    "computer of its key": (0, "10.0.0.6", "10.0.0.6:2#2"),
    "key": (1, "10.0.0.5", "10.0.0.5:2#2"),
}


@pytest.mark.parametrize("greedy", GREEDY)
def test_places_are_taken_from_the_key_computer_or_connection_that_holds_the_most(greedy):
    scheduler = Scheduler(capacity=8)
    for number in range(8):
        scheduler.submit(Waiting(f"g{number}", owner=GREEDY[greedy]), 0.0)
    for number in range(4):
        robot = Waiting(f"r{number}", owner=ROBOT)
        [drop] = scheduler.submit(robot, 0.0)
        assert (drop.request.session, drop.reason) == (f"g{7 - number}", DropReason.FULL)
    last = Waiting("r4", owner=ROBOT)
    # both hold four: whoever comes last gives way
    assert scheduler.submit(last, 0.0) == [Dropped(last, DropReason.FULL)]


def test_many_computers_of_one_key_hold_as_many_places_as_one_of_another():
    scheduler = Scheduler(capacity=8)
    for number in range(8):
        address = f"10.0.1.{number}"
        scheduler.submit(Waiting(f"g{number}", owner=(1, address, f"{address}:1#1")), 0.0)
    for number in range(4):
        [drop] = scheduler.submit(Waiting(f"r{number}", owner=ROBOT), 0.0)
        assert drop.request.session.startswith("g")


def test_a_full_scheduler_still_takes_the_newest_of_a_session_that_waits():
    scheduler = Scheduler(capacity=1)
    older, newer = Waiting("a"), Waiting("a")
    scheduler.submit(older, 0.0)
    assert scheduler.submit(newer, 0.0) == [Dropped(older, DropReason.SUPERSEDED)]


def test_a_full_scheduler_makes_room_by_dropping_what_nobody_wants():
    scheduler = Scheduler(capacity=2)
    gone, late = Waiting("gone", gone=True), Waiting("late", deadline=1.0)
    scheduler.submit(gone, 0.0)
    scheduler.submit(late, 0.0)
    newcomer = Waiting("new")
    assert scheduler.submit(newcomer, 1.0) == [
        Dropped(gone, DropReason.CANCELLED),
        Dropped(late, DropReason.DEADLINE_EXCEEDED),
    ]
    assert served(scheduler) == [newcomer]


def test_a_deadline_drops_a_request_from_that_moment_on():
    scheduler = Scheduler(capacity=8)
    request = Waiting("robot", deadline=2.0)
    scheduler.submit(request, 0.0)
    assert take(scheduler, 1.999) == (request, [])
    scheduler.submit(request, 0.0)
    assert take(scheduler, 2.0) == (None, [Dropped(request, DropReason.DEADLINE_EXCEEDED)])


def test_a_cancelled_request_is_not_run():
    scheduler = Scheduler(capacity=8)
    gone, wanted = Waiting("gone"), Waiting("wanted")
    scheduler.submit(gone, 0.0)
    scheduler.submit(wanted, 0.0)
    gone.gone = True
    assert take(scheduler, 0.0) == (wanted, [Dropped(gone, DropReason.CANCELLED)])


def test_a_late_request_that_is_replaced_counts_as_late_and_not_as_superseded():
    scheduler = Scheduler(capacity=8)
    late, newer = Waiting("robot", deadline=1.0), Waiting("robot")
    scheduler.submit(late, 0.0)
    assert scheduler.submit(newer, 1.0) == [Dropped(late, DropReason.DEADLINE_EXCEEDED)]


def test_a_session_can_be_forgotten():
    scheduler = Scheduler(capacity=8)
    request = Waiting("robot")
    scheduler.submit(request, 0.0)
    assert scheduler.end_session("robot") is request
    assert scheduler.end_session("robot") is None
    assert served(scheduler) == []


def test_clear_gives_back_everything_in_order():
    scheduler = Scheduler(capacity=8)
    requests = [Waiting(name) for name in "xyz"]
    for request in requests:
        scheduler.submit(request, 0.0)
    assert scheduler.clear() == requests
    assert len(scheduler) == 0


def test_every_request_leaves_exactly_once():
    scheduler = Scheduler(capacity=3)
    submitted, left = [], []
    for step in range(200):
        request = Waiting(f"s{step * 7 % 5}", deadline=None if step % 3 else step + 4.0)
        request.gone = step % 11 == 0
        submitted.append(request)
        left += [drop.request for drop in scheduler.submit(request, float(step))]
        if step % 2:
            chosen, dropped = take(scheduler, float(step))
            left += [drop.request for drop in dropped] + ([chosen] if chosen else [])
    left += scheduler.clear()
    assert len(left) == len(submitted)
    assert {id(request) for request in left} == {id(request) for request in submitted}


def test_a_scheduler_without_places_makes_no_sense():
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        Scheduler(capacity=0)


def everything(scheduler, now=0.0, room=8, compatible=lambda one, other: True):
    return scheduler.next_batch(now, room, compatible)


def test_a_batch_takes_the_requests_of_several_sessions():
    scheduler = Scheduler(capacity=8)
    requests = [Waiting(name) for name in "abc"]
    for request in requests:
        scheduler.submit(request, 0.0)
    batch = everything(scheduler, room=2)
    assert [piece.request for piece in batch.pieces] == requests[:2]
    assert [piece.request for piece in everything(scheduler, room=2).pieces] == requests[2:]


def test_a_full_batch_looks_for_no_company():
    def compatible(one, other):
        raise AssertionError("compared, although nothing more fits")

    scheduler = Scheduler(capacity=8)
    for name in "abc":
        scheduler.submit(Waiting(name), 0.0)
    assert len(scheduler.next_batch(0.0, 1, compatible).pieces) == 1
    assert len(scheduler.upcoming(0.0, 1, compatible)) == 1


def knows_a_second_each(scheduler, sizes=(1,)):
    """Lets batches of these sizes run, a second for each observation; returns the time then."""
    now = -100.0
    for size in sizes * 8:
        scheduler.submit(Waiting("earlier", size=size), now)
        pieces = everything(scheduler, now, size).pieces
        now += size
        scheduler.finished(pieces, now)
    scheduler.end_session("earlier")
    return now


def test_a_request_that_cannot_be_answered_in_time_any_more_lets_others_go_first():
    scheduler = Scheduler(capacity=8)
    now = knows_a_second_each(scheduler)
    scheduler.submit(Waiting("too late", deadline=now + 0.5), now)
    scheduler.submit(Waiting("in time", deadline=now + 1.1), now)
    assert take(scheduler, now)[0].session == "in time"


def test_a_request_that_will_be_late_runs_where_the_device_is_free():
    scheduler = Scheduler(capacity=8)
    now = knows_a_second_each(scheduler)
    scheduler.submit(Waiting("too late", deadline=now + 0.5), now)
    assert take(scheduler, now)[0].session == "too late"


def test_nobody_is_taken_for_late_before_enough_has_run():
    scheduler = Scheduler(capacity=8)
    scheduler.submit(Waiting("slow start"), -10.0)
    scheduler.finished(everything(scheduler, -10.0, 1).pieces, 0.0)
    scheduler.submit(Waiting("first", deadline=1.0), 0.0)
    scheduler.submit(Waiting("second", deadline=2.0), 0.0)
    assert take(scheduler, 0.0)[0].session == "first"


def test_a_batch_grows_no_longer_than_its_requests_can_wait():
    scheduler = Scheduler(capacity=8)
    now = knows_a_second_each(scheduler, (1, 2, 3))
    scheduler.submit(Waiting("urgent", deadline=now + 2.5), now)
    for name in "abc":
        scheduler.submit(Waiting(name, deadline=now + 10.0), now)
    batch = everything(scheduler, now, 4)
    assert [piece.request.session for piece in batch.pieces] == ["urgent", "a"]
    assert [piece.request.session for piece in everything(scheduler, now, 4).pieces] == ["b", "c"]


def test_robots_come_before_shadows_and_these_before_evaluation_and_share_no_batch():
    scheduler = Scheduler(capacity=8)
    for rank, name in ((2, "sim"), (1, "copy"), (0, "robot")):
        scheduler.submit(Waiting(name, rank=rank), 0.0)
    order = [[piece.request.session for piece in everything(scheduler).pieces] for _ in range(3)]
    assert order == [["robot"], ["copy"], ["sim"]]


def test_the_earliest_deadline_is_first_and_none_is_last():
    scheduler = Scheduler(capacity=8)
    for name, deadline in (("none", None), ("late", 9.0), ("soon", 1.0)):
        scheduler.submit(Waiting(name, deadline=deadline), 0.0)
    assert [request.session for request in served(scheduler)] == ["soon", "late", "none"]


def test_a_session_has_one_batch_under_way_at_a_time():
    scheduler = Scheduler(capacity=8)
    scheduler.submit(Waiting("robot"), 0.0)
    running = everything(scheduler)
    newer = Waiting("robot")
    scheduler.submit(newer, 0.0)
    assert everything(scheduler).pieces == ()
    scheduler.finished(running.pieces, 1.0)
    assert [piece.request for piece in everything(scheduler).pieces] == [newer]


def test_a_large_request_runs_in_pieces_that_fit():
    scheduler = Scheduler(capacity=8)
    large = Waiting("sim", size=5)
    scheduler.submit(large, 0.0)
    pieces = []
    while batch := everything(scheduler, room=2).pieces:
        pieces += [(piece.first, piece.count) for piece in batch]
    assert pieces == [(0, 2), (2, 2), (4, 1)]
    assert len(scheduler) == 0


def test_a_large_request_that_is_superseded_runs_no_further():
    scheduler = Scheduler(capacity=8)
    large, newer = Waiting("sim", size=5), Waiting("sim", size=1)
    scheduler.submit(large, 0.0)
    first = everything(scheduler, room=2)
    assert scheduler.submit(newer, 0.0) == [Dropped(large, DropReason.SUPERSEDED)]
    scheduler.finished(first.pieces, 1.0)
    assert [piece.request for piece in everything(scheduler, room=2).pieces] == [newer]


def test_when_it_is_full_the_lowest_class_makes_room():
    scheduler = Scheduler(capacity=2)
    simulator, robot, newcomer = Waiting("sim", rank=2), Waiting("a"), Waiting("b")
    scheduler.submit(simulator, 0.0)
    scheduler.submit(robot, 0.0)
    assert scheduler.submit(newcomer, 0.0) == [Dropped(simulator, DropReason.FULL)]
    assert served(scheduler) == [robot, newcomer]


def test_when_it_is_full_the_client_with_the_most_sessions_makes_room():
    scheduler = Scheduler(capacity=3)
    many = [Waiting(name) for name in "abc"]
    for request in many:
        scheduler.submit(request, 0.0)
    other = Waiting("other", owner=(0, "10.0.0.6", "10.0.0.6:1#2"))
    assert scheduler.submit(other, 0.0) == [Dropped(many[2], DropReason.FULL)]
    assert len(scheduler) == 3


def test_soon_after_the_next_deadline_is_when_to_look_again():
    scheduler = Scheduler(capacity=8)
    assert scheduler.next_wakeup() is None
    scheduler.submit(Waiting("a", deadline=3.0), 0.0)
    scheduler.submit(Waiting("b", deadline=2.0), 0.0)
    assert scheduler.next_wakeup() == 2.0 + DEADLINE_GRACE
    assert everything(scheduler, now=2.0, room=0).dropped[0].request.session == "b"
    assert scheduler.next_wakeup() == 3.0 + DEADLINE_GRACE


RANKS = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from("abcdef"),
            st.none() | st.floats(0.01, 1.0),
            RANKS,
            st.integers(1, 5),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("end"), st.sampled_from("abcdef")),
        st.tuples(st.just("finish"), st.floats(0.0, 0.2)),
        st.tuples(st.just("wait"), st.floats(0.0, 0.5)),
    ),
    max_size=60,
)


class Life:
    """A scheduler, a device that runs one batch at a time, and what became of each request."""

    def __init__(self, capacity, max_batch, max_wait):
        self.scheduler = Scheduler(capacity=capacity, max_wait=max_wait)
        self.capacity, self.max_batch = capacity, max_batch
        self.now, self.running = 0.0, None
        self.submitted, self.dropped, self.ended = [], [], []
        self.given = Counter()

    def submit(self, session, within, rank, size):
        deadline = None if within is None else self.now + within
        request = Waiting(session, deadline, size=size, rank=rank)
        self.submitted.append(request)
        self.dropped += [drop.request for drop in self.scheduler.submit(request, self.now)]
        assert len(self.scheduler) <= self.capacity

    def cancel(self, number):
        if self.submitted:
            self.submitted[number % len(self.submitted)].gone = True

    def end(self, session):
        request = self.scheduler.end_session(session)
        self.ended += [request] if request else []

    def finish(self, after):
        if self.running:
            self.now += after
            self.scheduler.finished(self.running, self.now)
            self.running = None

    def wait(self, seconds):
        self.now += seconds

    def advance(self):
        while True:
            room = 0 if self.running else self.max_batch
            upcoming = self.scheduler.upcoming(self.now, self.max_batch, lambda one, other: True)
            assert sum(piece.count for piece in upcoming) <= self.max_batch
            batch = everything(self.scheduler, self.now, room)
            self.dropped += [drop.request for drop in batch.dropped]
            if batch.pieces and batch.pieces[0].request.rank == 0 and not batch.dropped:
                assert batch.pieces == upcoming
            if not batch.pieces:
                break
            self._check(batch.pieces)
            self.running = batch.pieces
        wakeup = self.scheduler.next_wakeup()
        assert wakeup is None or wakeup > self.now, "the caller would spin"

    def _check(self, pieces):
        sessions = [piece.request.session for piece in pieces]
        assert len(set(sessions)) == len(sessions)
        assert len({piece.request.rank for piece in pieces}) == 1
        assert sum(piece.count for piece in pieces) <= self.max_batch
        for piece in pieces:
            request = piece.request
            assert not request.gone
            assert request.deadline is None or self.now < request.deadline
            assert request not in self.dropped
            assert piece.first == self.given[request]
            self.given[request] += piece.count

    def run_dry(self):
        for _ in range(200):
            if self.running:
                self.finish(0.02)
            elif (wakeup := self.scheduler.next_wakeup()) is not None:
                self.now = wakeup
            self.advance()


@hypothesis.given(STEPS, st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.0, 0.003]))
def test_whatever_happens_every_request_runs_once_or_is_dropped_once(
    steps, capacity, max_batch, max_wait
):
    life = Life(capacity, max_batch, max_wait)
    for do, *arguments in steps:
        getattr(life, do)(*arguments)
        life.advance()
    life.run_dry()
    assert len(life.scheduler) == 0, "nothing that can run waits for ever"
    complete = [request for request in life.submitted if life.given[request] == request.size]
    left = complete + life.dropped + life.ended
    assert len(left) == len(life.submitted)
    assert set(left) == set(life.submitted)


def upcoming(scheduler, room=1):
    pieces = scheduler.upcoming(1.0, room, lambda one, other: True)
    return [piece.request.session for piece in pieces]


def test_what_is_upcoming_is_what_runs_when_the_running_batch_has_ended():
    scheduler = Scheduler(capacity=8)
    scheduler.submit(Waiting("a"), 0.0)
    running = everything(scheduler, 0.0, 1).pieces
    for session in "abc":
        scheduler.submit(Waiting(session, rank=1 if session == "c" else 0), 1.0)
    assert everything(scheduler, 1.0, 0).pieces == ()
    # "a" has had its turn; its own running request does not hide its next one
    assert upcoming(scheduler) == ["b"]
    assert upcoming(scheduler, room=8) == ["b", "a"]
    assert len(scheduler) == 3
    scheduler.finished(running, 2.0)
    assert [request.session for request in served(scheduler, 2.0)] == ["b", "a", "c"]


def test_of_a_large_request_the_next_piece_is_upcoming():
    scheduler = Scheduler(capacity=8)
    scheduler.submit(Waiting("simulator", size=5), 0.0)
    everything(scheduler, 0.0, 2)
    (piece,) = scheduler.upcoming(0.0, 2, lambda one, other: True)
    assert (piece.first, piece.count) == (2, 2)


def test_held_requests_are_upcoming_if_no_others_are():
    scheduler = Scheduler(capacity=8)
    assert upcoming(scheduler) == []
    scheduler.submit(Waiting("held"), 0.0, held_until=9.0)
    assert upcoming(scheduler, room=8) == ["held"]
    scheduler.submit(Waiting("free", rank=2), 0.0)
    assert upcoming(scheduler, room=8) == ["free"]


def test_a_held_request_waits_until_its_time_and_others_go_first():
    scheduler = Scheduler(capacity=4)
    held, other = Waiting("held"), Waiting("other")
    scheduler.submit(held, 0.0, held_until=2.0)
    scheduler.submit(other, 0.1)
    assert take(scheduler, 0.2) == (other, [])
    assert scheduler.next_wakeup() == 2.0
    assert take(scheduler, 1.9) == (None, [])
    assert scheduler.next_batch(2.0, 0, lambda one, two: True).pieces == ()
    # its time has come: nothing to look at while the device is busy
    assert scheduler.next_wakeup() is None
    assert take(scheduler, 2.1) == (held, [])


def test_a_released_request_runs_at_once_and_a_newer_one_is_held_on_its_own():
    scheduler = Scheduler(capacity=4)
    second = Waiting("arm")
    scheduler.submit(Waiting("arm"), 0.0, held_until=2.0)
    scheduler.release("arm")
    scheduler.submit(second, 1.0, held_until=3.0)
    assert take(scheduler, 2.5) == (None, [])
    scheduler.release("arm")
    assert take(scheduler, 2.5) == (second, [])
    scheduler.release("nobody")


def test_a_held_request_is_dropped_when_its_client_leaves_or_its_deadline_passes():
    scheduler = Scheduler(capacity=4)
    late, gone = Waiting("late", deadline=0.5), Waiting("gone", gone=True)
    scheduler.submit(late, 0.0, held_until=2.0)
    scheduler.submit(gone, 0.0, held_until=2.0)
    assert take(scheduler, 1.0)[1] == [
        Dropped(late, DropReason.DEADLINE_EXCEEDED),
        Dropped(gone, DropReason.CANCELLED),
    ]


def robot_that_asks_every_second(scheduler, session="robot"):
    """The next request is expected at 4 s; a call takes 0.2 s."""
    for at in (0.0, 1.0, 2.0, 3.0):
        scheduler.submit(Waiting(session), at)
        batch = scheduler.next_batch(at, 1, lambda one, other: True)
        scheduler.finished(batch.pieces, at + 0.2)


@pytest.mark.parametrize(("places", "runs"), [(1, False), (2, True)])
def test_a_lower_class_runs_at_any_time_where_a_place_is_left_for_the_robot(places, runs):
    scheduler = Scheduler(capacity=8)
    robot_that_asks_every_second(scheduler)
    scheduler.submit(Waiting("sim", rank=2), 3.9)
    batch = scheduler.next_batch(3.9, 1, lambda one, other: True, places=places)
    assert [piece.request.session for piece in batch.pieces] == (["sim"] if runs else [])


@pytest.mark.parametrize(("places", "waits"), [(1, True), (2, False)])
def test_a_batch_waits_for_nobody_while_another_place_is_free(places, waits):
    scheduler = Scheduler(capacity=8, max_wait=0.2)
    robot_that_asks_every_second(scheduler)
    scheduler.submit(Waiting("other"), 3.9)
    batch = scheduler.next_batch(3.9, 2, lambda one, other: True, places=places)
    assert (not batch.pieces) is waits


def test_a_request_that_no_place_can_take_stays_and_lets_the_next_go_first():
    scheduler = Scheduler(capacity=8)
    stuck, free = Waiting("stuck"), Waiting("free")
    scheduler.submit(stuck, 0.0)
    scheduler.submit(free, 0.0)
    batch = scheduler.next_batch(
        0.0, 1, lambda one, other: True, can_start=lambda request: request is not stuck
    )
    assert [piece.request for piece in batch.pieces] == [free]
    assert scheduler.waiting == [stuck]

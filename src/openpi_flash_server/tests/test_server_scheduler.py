"""Who is next: pure, with the time as a number."""

import dataclasses
import json
from pathlib import Path

import pytest

from openpi_flash_server.slot.scheduler import Dropped, DropReason, Scheduler

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

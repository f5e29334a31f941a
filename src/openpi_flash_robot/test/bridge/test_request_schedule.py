"""request_schedule.py: when to ask the policy."""

import numpy as np

from openpi_flash_robot.bridge.request_schedule import RETRY_NS, RequestSchedule
from openpi_flash_robot.play.motion import rest
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.senses.frames import FrameSet
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.observation import Observation
from openpi_flash_robot.senses.states import StateReading

MS = 1_000_000


def observation(stamp):
    return Observation(
        FrameSet({}, stamp, stamp), JointReading(np.zeros(1), stamp), StateReading({}, stamp), ""
    )


def plan(observed, step=20 * MS, steps=1000):
    due_ns = observed + np.arange(1, steps + 1) * step
    return Plan(rest(np.zeros(1), observed), due_ns, step, observed, 0, observed, 1, 0)


def answered(requests, at, took):
    request = requests.send(at, observation(at))
    requests.finish(at + took, request.request_id, is_answered=True)


def test_without_a_plan_a_request_is_due_at_once():
    assert RequestSchedule().is_due(0, None, 10)


def test_with_a_plan_it_is_due_when_its_steps_have_been_played():
    requests = RequestSchedule()
    assert not requests.is_due(299 * MS, plan(100 * MS), 10)
    assert requests.is_due(300 * MS, plan(100 * MS), 10)
    assert requests.is_due(101 * MS, plan(100 * MS), 0)


def test_one_request_is_in_flight_at_a_time():
    requests = RequestSchedule()
    request = requests.send(0, observation(1))
    requests.ask_at_once()
    assert not requests.is_due(10_000 * MS, None, 0)
    assert requests.finish(0, request.request_id, is_answered=False) is request
    assert requests.is_due(10_000 * MS, None, 0)


def test_an_answer_to_another_request_or_a_second_one_finishes_nothing():
    requests = RequestSchedule()
    first = requests.send(0, observation(1))
    assert requests.finish(0, first.request_id + 1, is_answered=False) is None
    assert requests.finish(0, first.request_id, is_answered=False) is first
    assert requests.finish(0, first.request_id, is_answered=False) is None


def test_a_forgotten_request_stays_in_flight_but_its_answer_goes_by():
    requests = RequestSchedule()
    request = requests.send(0, observation(1))
    requests.forget()
    assert not requests.is_due(10_000 * MS, None, 0)
    assert requests.finish(0, request.request_id, is_answered=False) is None
    assert requests.is_due(10_000 * MS, None, 0)


def test_a_lost_request_makes_way_for_the_next_one():
    requests = RequestSchedule()
    requests.send(0, observation(1))
    requests.lose()
    assert requests.is_due(0, None, 0)


def test_after_a_failure_it_waits_but_not_if_asked_at_once():
    requests = RequestSchedule()
    requests.retry_later(0)
    assert not requests.is_due(RETRY_NS - 1, None, 0)
    assert requests.is_due(RETRY_NS, None, 0)
    requests.ask_at_once()
    assert requests.is_due(0, plan(0), 1000)


def test_a_clock_that_is_set_back_does_not_make_it_wait_for_the_old_time():
    requests = RequestSchedule()
    requests.retry_later(1_000_000 * MS)
    assert requests.is_due(5 * MS, None, 0)


def test_the_same_frames_are_known_again():
    requests = RequestSchedule()
    assert not requests.has_seen(FrameSet({}, 1, 2))
    requests.send(
        0, Observation(FrameSet({}, 1, 2), JointReading(np.zeros(1), 1), StateReading({}, 1), "")
    )
    assert requests.has_seen(FrameSet({}, 1, 2))
    assert not requests.has_seen(FrameSet({}, 2, 2))


def test_the_next_answer_is_asked_for_so_early_that_it_comes_before_the_plan_ends():
    requests = RequestSchedule()
    short = plan(0, step=50 * MS, steps=7)
    assert not requests.is_due(299 * MS, short, 10)
    assert requests.is_due(300 * MS, short, 10)
    answered(requests, at=0, took=200 * MS)
    assert requests.is_due(100 * MS, short, 10)
    for took in (30, 80, 40):
        answered(requests, at=1000 * MS, took=took * MS)
    assert not requests.is_due(219 * MS, short, 10)
    assert requests.is_due(220 * MS, short, 10)


def test_a_long_plan_is_played_as_far_as_wanted():
    requests = RequestSchedule()
    answered(requests, at=0, took=200 * MS)
    assert not requests.is_due(199 * MS, plan(0), 10)
    assert requests.is_due(200 * MS, plan(0), 10)


def test_only_answers_count_and_no_clock_that_was_set_back():
    requests = RequestSchedule()
    short = plan(0, step=50 * MS, steps=7)
    failed = requests.send(0, observation(1))
    requests.finish(250 * MS, failed.request_id, is_answered=False)
    backwards = requests.send(100 * MS, observation(2))
    requests.finish(0, backwards.request_id, is_answered=True)
    assert not requests.is_due(299 * MS, short, 10)
    assert requests.is_due(300 * MS, short, 10)


def test_a_slow_answer_of_long_ago_is_forgotten():
    requests = RequestSchedule()
    short = plan(0, step=50 * MS, steps=7)
    for took in (10, 200, *[30] * 100):
        answered(requests, at=0, took=took * MS)
    assert not requests.is_due(269 * MS, short, 10)
    assert requests.is_due(270 * MS, short, 10)


def test_a_chunk_that_is_played_out_is_followed_by_one_observed_as_late_as_its_answer_allows():
    requests = RequestSchedule()
    answered(requests, 0, 70 * MS)
    # takes over at 900 ms: an answer, a lead of 40 ms and a step of 20 ms before that
    due = 900 * MS - (70 + 40 + 20) * MS
    running = plan(100 * MS)
    assert not requests.is_due(due - 1, running, 10, 40 * MS, takeover_ns=900 * MS)
    assert requests.is_due(due, running, 10, 40 * MS, takeover_ns=900 * MS)

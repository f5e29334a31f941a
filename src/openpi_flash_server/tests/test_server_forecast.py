"""When the next request comes, and how long a batch takes."""

import pytest

from openpi_flash_server.slot.forecast import Arrivals, Durations


def rhythm(arrivals, *, period, latencies):
    """A client that sends every `period` s; the time after its last answer."""
    now = 0.0
    for index, latency in enumerate(latencies):
        now = index * period
        arrivals.arrived("robot", 0, now)
        arrivals.answered("robot", now + latency)
    return now


def test_a_regular_client_is_expected_after_its_period_however_long_answers_take():
    arrivals = Arrivals()
    last = rhythm(arrivals, period=0.1, latencies=[0.02, 0.06, 0.03, 0.05, 0.02, 0.06] * 5)
    (expected,) = arrivals.expected(last + 0.07)
    assert (expected.session, expected.rank) == ("robot", 0)
    assert expected.at == pytest.approx(last + 0.1)
    assert expected.latest - expected.earliest < 0.02


def test_a_client_that_waits_for_its_answer_is_expected_after_its_pause():
    arrivals, now = Arrivals(), 0.0
    for latency in (0.02, 0.3, 0.05, 0.2, 0.02, 0.1) * 4:
        arrivals.arrived("robot", 0, now)
        now += latency
        arrivals.answered("robot", now)
        now += 0.010
    (expected,) = arrivals.expected(now - 0.010)
    assert expected.at == pytest.approx(now)


def test_a_client_without_a_rhythm_is_expected_at_any_time():
    arrivals, now = Arrivals(), 0.0
    for pause in (0.01, 0.3, 0.05, 0.2, 0.02, 0.25):
        arrivals.arrived("robot", 0, now)
        arrivals.answered("robot", now + 0.02)
        now += 0.02 + pause
    (expected,) = arrivals.expected(now - 0.25)
    assert expected.earliest < now - 0.25
    assert expected.latest > now + 0.1


def test_nobody_is_foreseen_before_the_third_time_or_while_it_waits_for_an_answer():
    arrivals = Arrivals()
    rhythm(arrivals, period=0.1, latencies=[0.02] * 3)
    assert list(arrivals.expected(0.25)) == []
    arrivals.arrived("robot", 0, 0.3)
    assert list(arrivals.expected(0.31)) == []
    arrivals.answered("robot", 0.32)
    assert len(list(arrivals.expected(0.33))) == 1


def test_a_client_that_fell_silent_or_left_is_not_expected():
    arrivals = Arrivals()
    last = rhythm(arrivals, period=0.1, latencies=[0.02] * 10)
    assert list(arrivals.expected(last + 1.0)) == []
    arrivals.forget("robot")
    assert list(arrivals.expected(last + 0.05)) == []


def test_a_duration_is_that_of_the_nearest_smaller_batch_in_proportion():
    durations = Durations()
    assert durations.expected(4) is None
    durations.ran(1, 0.020)
    durations.ran(4, 0.030)
    assert durations.expected(1) == pytest.approx(0.020)
    assert durations.expected(2) == pytest.approx(0.040)
    assert durations.expected(8) == pytest.approx(0.060)


def test_a_duration_that_varies_is_expected_with_a_margin():
    durations = Durations()
    for seconds in (0.02, 0.03) * 20:
        durations.ran(1, seconds)
    assert 0.03 <= durations.expected(1) <= 0.05

"""benchmarks/fleet.py: what a fleet of robots gets of a pool of GPUs, in virtual time."""

import pytest
from fleet import BATCH_RATES, Fleet, call_seconds


def test_a_call_takes_what_was_measured_and_between_the_sizes_what_lies_between():
    assert [round(size / call_seconds(size), 6) for size in BATCH_RATES] == list(
        BATCH_RATES.values()
    )
    assert call_seconds(2) < call_seconds(3) < call_seconds(4)


def test_a_robot_alone_gets_each_answer_after_one_call():
    outcome = Fleet(1, 1).run(5.0)
    assert outcome.in_time == outcome.sent >= 8
    assert outcome.p99_ms == pytest.approx(call_seconds(1) * 1000, abs=0.1)


def test_twice_the_gpus_serve_twice_the_robots_as_well():
    one, two = Fleet(16, 1).run(6.0), Fleet(32, 2).run(6.0)
    assert two.per_gpu_second >= 0.95 * one.per_gpu_second
    assert two.p99_ms <= 1.25 * one.p99_ms


def test_with_too_few_gpus_answers_are_lost_and_not_all_of_them_late():
    outcome = Fleet(64, 1).run(6.0)
    assert outcome.in_time < 0.8 * outcome.sent
    # full batches of requests that are still in time: what the GPU can do
    assert outcome.per_gpu_second >= 0.85 * BATCH_RATES[8]

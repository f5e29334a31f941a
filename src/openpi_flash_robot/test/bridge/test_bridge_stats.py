"""bridge.py: what a request cost, and what was dropped."""

import math

import numpy as np
import pytest
from bridge_world import of

from openpi_flash_robot.bridge.effects import PublishStats, SendRequest
from openpi_flash_robot.link.events import FailureKind, RequestFailure


def test_stats_add_up_and_count_what_was_dropped(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    timing = {"server_timing": {"infer_ms": 25.0}}
    (stats,) = of(world.answer(request, latency_ms=60, **timing), PublishStats)
    assert stats.total == pytest.approx(0.06)
    assert stats.server == pytest.approx(0.025)
    parts = stats.preprocess + stats.serialize + stats.network + stats.server
    assert parts == pytest.approx(stats.total)
    assert (stats.serialize, stats.bytes_up, stats.bytes_down) == (0.002, 452_000, 7_000)
    assert stats.sequence == 2
    assert stats.steps_skipped >= 1
    assert 0 < stats.observation_age < 0.1
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = of(world.answer(request, np.zeros((2, 2))), PublishStats)
    assert (stats.sequence, stats.chunks_dropped, stats.deadline_misses) == (0, 1, 0)
    assert math.isnan(stats.server)


def test_a_server_that_claims_more_time_than_there_was_makes_no_negative_network(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = of(world.answer(request, server_timing={"infer_ms": 9e9}), PublishStats)
    assert stats.network == 0.0


def test_an_answer_later_than_its_chunk_counts_as_a_missed_deadline(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = of(world.answer(request, latency_ms=1_500), PublishStats)
    assert (stats.chunks_dropped, stats.deadline_misses) == (1, 1)
    assert world.status.message == (
        "chunk 2 came 1.50 s after its observation, max_chunk_age is 1.00 s"
    )


def test_activation_starts_the_counters_anew(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.event(RequestFailure(request.request_id, FailureKind.TIMEOUT, "late"))
    assert world.bridge.tally.deadline_misses == 1
    world.bridge.deactivate(world.now)
    world.bridge.activate(world.now)
    assert world.bridge.tally.deadline_misses == 0

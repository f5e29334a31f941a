"""bridge.py: what a request cost, and what was dropped."""

import math

import numpy as np
import pytest
from bridge_world import of, still

from openpi_flash_robot.bridge.drop_reason import DropReason
from openpi_flash_robot.bridge.effects import PublishStats, SendRequest, Warn
from openpi_flash_robot.link.events import (
    FailureKind,
    RequestCost,
    RequestDone,
    RequestFailure,
)


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


def test_how_the_images_travelled_is_in_stats_and_status_and_a_change_is_told(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    cost = RequestCost(0.002, 50_000, 7_000, 84, 18e6, 0.005, "images are sent as JPEG: why")
    done = RequestDone(request.request_id, {"actions": still()}, 0.003, 0.04, cost)
    effects = world.event(done)
    (stats,) = of(effects, PublishStats)
    assert (stats.jpeg_quality, stats.link_rate, stats.link_queue) == (84, 18e6, 0.005)
    assert of(effects, Warn) == [Warn("images are sent as JPEG: why")]
    assert world.status.jpeg_quality == 84
    request = world.pass_time(2_000, until=SendRequest)
    assert of(world.answer(request), Warn) == []
    assert world.status.jpeg_quality == 0


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


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FailureKind.TIMEOUT, DropReason.TIMEOUT),
        (FailureKind.SERVER, DropReason.SERVER_ERROR),
        (FailureKind.PREPARE, DropReason.INPUTS),
        (FailureKind.SUPERSEDED, DropReason.SUPERSEDED),
        (FailureKind.LINK, DropReason.LINK),
    ],
)
def test_a_request_without_an_answer_has_statistics_with_the_reason(world, kind, reason):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.pass_time(60)
    (stats,) = of(world.event(RequestFailure(request.request_id, kind, "why")), PublishStats)
    assert (stats.drop_reason, stats.sequence) == (reason, 0)
    assert stats.observation_ns == request.observation.oldest_ns
    assert stats.total == pytest.approx(0.06)
    assert math.isnan(stats.network)
    assert (stats.inferences, stats.drop_counts[reason]) == (2, 1)
    assert stats.chunks_dropped == 0
    assert stats.deadline_misses == (kind is FailureKind.TIMEOUT)


def test_each_dropped_chunk_has_its_reason_and_is_counted(world):
    world.run()

    def stats_of(actions, **more):
        request = world.pass_time(2_000, until=SendRequest)
        return of(world.answer(request, actions, **more), PublishStats)[0]

    assert stats_of(still()).drop_reason == DropReason.NONE
    assert stats_of(still() * np.nan).drop_reason == DropReason.MALFORMED
    assert stats_of(still() + 1.0).drop_reason == DropReason.START_JUMP
    stats = stats_of(still(), latency_ms=2_500)
    assert stats.drop_reason == DropReason.LATE
    assert (stats.inferences, stats.chunks_dropped, stats.deadline_misses) == (5, 3, 1)
    expected = {DropReason.NONE: 2, DropReason.MALFORMED: 1, DropReason.START_JUMP: 1}
    expected[DropReason.LATE] = 1
    assert stats.drop_counts == tuple(expected.get(reason, 0) for reason in DropReason)


def test_a_chunk_observed_before_the_robot_came_to_hold_says_so(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = of(world.answer(request, still(), latency_ms=700), PublishStats)
    assert (stats.drop_reason, stats.deadline_misses) == (DropReason.OLDER_THAN_HOLD, 0)


def test_activation_starts_the_counters_anew(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.event(RequestFailure(request.request_id, FailureKind.TIMEOUT, "late"))
    assert world.bridge.tally.deadline_misses == 1
    world.bridge.deactivate(world.now)
    world.bridge.activate(world.now)
    assert world.bridge.tally.deadline_misses == 0

"""bridge.py: from frames to chunks and trajectories, against a virtual clock and a made-up link."""

import dataclasses

import numpy as np
import pytest
from bridge_world import MEASURED, MS, PERIOD, World, moving, of, still

from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishPlan,
    PublishTrajectory,
    SendRequest,
    Warn,
)
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.link.events import FailureKind, RequestFailure
from openpi_flash_robot.play.chunk_player import JOIN_NS
from openpi_flash_robot.settings.parse_settings import settings_from_parameters


def test_it_asks_nothing_before_it_is_connected_and_active(world):
    assert world.status.state is State.CONNECTING
    assert world.status.message == "connecting to 127.0.0.1:5555"
    world.up()
    assert world.pass_time(200, until=SendRequest) is None
    assert (world.status.state, world.status.message) == (State.PAUSED, "not active")
    world.bridge.activate(world.now)
    assert world.pass_time(40, until=SendRequest) is not None
    assert world.status.state is State.HOLDING
    assert world.status.message == "waiting for the first chunk"


def test_an_answer_becomes_a_chunk_and_one_trajectory_per_controller(world):
    world.bridge.activate(world.now)
    world.up()
    request = world.pass_time(100, until=SendRequest)
    assert request.observation.prompt == "stack the cubes"
    assert request.timeout == pytest.approx(0.995)  # its observation is 5 ms old, and may be 1 s
    effects = world.answer(request)
    (chunk,) = of(effects, PublishChunk)
    assert chunk.sequence == 1
    assert chunk.start_ns == world.now + JOIN_NS + 40 * MS
    assert chunk.observation_ns == request.observation.oldest_ns
    assert chunk.first_step == 0
    np.testing.assert_array_equal(chunk.actions, still())
    arm, hand = of(effects, PublishTrajectory)
    assert (arm.controller.name, hand.controller.name) == ("arm", "hand")
    np.testing.assert_allclose(arm.trajectory.positions[0], MEASURED[:2])
    np.testing.assert_allclose(hand.trajectory.positions[0], MEASURED[2:])
    status = world.status
    assert (status.state, status.sequence, status.message) == (State.RUNNING, 1, "")
    assert status.chunk_age == pytest.approx((world.now - chunk.observation_ns) / 1e9)
    assert 0 < status.steps_buffered <= 50


def test_the_next_observation_is_taken_when_the_execution_horizon_is_played(world):
    request = world.run()
    following = world.pass_time(2_000, until=SendRequest)
    due = request.observation.oldest_ns + 10 * 40 * MS
    assert due <= world.now < due + PERIOD
    effects = world.answer(following)
    (chunk,) = of(effects, PublishChunk)
    assert chunk.sequence == 2
    assert chunk.start_ns == following.observation.oldest_ns
    assert chunk.first_step >= 1


def test_only_one_request_is_in_flight_however_late_its_answer(world):
    world.run()
    world.pass_time(5_000)
    assert len(world.all(SendRequest)) == 2


def test_the_same_frames_are_not_sent_twice(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.event(RequestFailure(request.request_id, FailureKind.SUPERSEDED, "newer wins"))
    world.bridge.tick(world.now)
    assert world.collect(SendRequest) == []
    assert world.pass_time(20, until=SendRequest) is not None


def test_a_dry_run_shows_chunks_but_commands_nothing(parameters):
    world = World(settings_from_parameters(parameters | {"dry_run": True}))
    world.run()
    world.bridge.hold(world.now)
    world.collect()
    assert len(world.all(PublishChunk)) == 1
    assert world.all(PublishTrajectory) == []
    (plan,) = world.all(PublishPlan)
    np.testing.assert_allclose(plan.trajectory.positions[-1], MEASURED)


def test_new_settings_are_used_from_the_next_decision_on(world, settings):
    world.run()
    link = dataclasses.replace(settings.link, request_timeout=0.25)
    world.bridge.update_settings(dataclasses.replace(settings, link=link, execution_horizon=0))
    assert world.pass_time(40, until=SendRequest).timeout == 0.25


def test_the_joints_of_a_request_are_those_of_the_moment_of_its_images(world):
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), moving())
    request = world.pass_time(2_000, until=SendRequest)
    images = request.observation.frames.newest_ns
    assert request.observation.joints.oldest_ns == images
    # joint states are 4 ms newer than images here, and the shoulder moves at 0.4 rad/s
    here = world.bridge.states.joints.newest(world.now, max_age_ns=500 * MS).positions
    behind = here[0] - request.observation.joints.positions[0]
    assert behind == pytest.approx(0.4 * 4e-3, rel=0.1)


def test_with_rtc_a_request_says_what_is_left_of_the_running_chunk(settings, replace):
    player = replace(settings.player, chunk_method="rtc")
    world = World(replace(settings, player=player))
    world.bridge.activate(world.now)
    world.up(supports=["rtc"])
    first = world.pass_time(100, until=SendRequest)
    assert first.continuation is None
    world.answer(first, moving())
    request = world.pass_time(2_000, until=SendRequest)
    said = request.continuation
    assert said.execution_horizon == 10
    # the first answer took 40 ms, and a chunk takes over 40 ms after it has come
    assert said.delay == 3
    assert len(said.previous_actions) > 30
    np.testing.assert_allclose(np.diff(said.previous_actions[:, 0]), 0.8 / 49, rtol=1e-6)


def test_without_rtc_on_the_server_a_request_says_nothing_and_the_node_warns(settings, replace):
    player = replace(settings.player, chunk_method="rtc")
    world = World(replace(settings, player=player))
    world.bridge.activate(world.now)
    (warning,) = of(world.up(), Warn)
    assert warning.message.startswith("the server cannot continue a chunk (rtc)")
    world.answer(world.pass_time(100, until=SendRequest), moving())
    assert world.pass_time(2_000, until=SendRequest).continuation is None


@pytest.mark.parametrize(
    ("supports", "warning"),
    [
        (["rtc", "rtc_prefix"], None),
        (["rtc"], "the server's checkpoint was not trained with known actions (rtc_prefix)"),
        ([], "the server cannot continue a chunk (rtc)"),
    ],
)
def test_rtc_prefix_falls_back_to_what_the_server_can_and_says_so(
    settings, replace, supports, warning
):
    player = replace(settings.player, chunk_method="rtc_prefix")
    world = World(replace(settings, player=player))
    world.bridge.activate(world.now)
    warned = [one.message for one in of(world.up(supports=supports), Warn)]
    assert [one[: len(warning)] for one in warned] == [warning] if warning else not warned
    world.answer(world.pass_time(100, until=SendRequest), moving())
    said = world.pass_time(2_000, until=SendRequest).continuation
    assert said.is_prefix if supports else said is None


@pytest.mark.parametrize("horizon", [10, 0])
@pytest.mark.parametrize("latency", [40, 200])
def test_an_open_loop_plays_its_horizon_and_never_stops_between_two_chunks(
    settings, replace, horizon, latency
):
    player = replace(settings.player, chunk_method="open_loop", execution_horizon=horizon)
    world = World(replace(settings, player=player, execution_horizon=horizon))
    world.bridge.activate(world.now)
    world.up()
    world.answer(world.pass_time(100, until=SendRequest), swing(world.now), latency_ms=latency)
    slowest, taken_over = 9.0, []
    for index in range(5):
        request = world.pass_time(3_000, until=SendRequest)
        observed = request.observation.oldest_ns
        for _ in range(latency // 20):
            world.pass_time(20)
            if index:  # it has started
                slowest = min(slowest, world.speed)
        world.answer(request, swing(observed), latency_ms=0)
        taken_over.append(world.bridge._arm.player.plan.due_ns[0])
    assert world.status.state is State.RUNNING
    assert slowest > 0.1
    periods = np.diff(taken_over) / (40 * MS)
    # of a chunk of 50 steps, half may be played; the robot brakes for the last ones
    assert periods == pytest.approx(10 if horizon else 17, abs=1.01 if horizon else 5)


def swing(observed):
    """A chunk of a policy that moves the shoulder by 0.2 rad/s, by the moment."""
    moments = (observed - 1_000 * MS) / 1e9 + np.arange(50) * 0.04
    return still() + 0.2 * moments[:, np.newaxis] * [1, 0, 0]

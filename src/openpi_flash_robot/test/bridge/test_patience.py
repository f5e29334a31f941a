"""patience.py, and what the bridge makes of it: a robot that stood for long waits for a person."""

import pytest
from bridge_world import MS, moving

from openpi_flash_robot.bridge.effects import PublishChunk, SendRequest
from openpi_flash_robot.bridge.patience import Patience
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.events import FailureKind, LinkDown, RequestFailure

GONE = Hold(HoldKind.LINK, "the connection is gone")
SECOND = 1_000 * MS


def test_a_robot_that_has_not_moved_waits_for_ever():
    patience = Patience(10 * SECOND)
    assert patience.wait(0, GONE) is None
    assert patience.wait(3_600 * SECOND, GONE) is None


def test_a_robot_that_has_moved_waits_for_so_long_and_says_why():
    patience = Patience(10 * SECOND)
    patience.move()
    assert patience.wait(SECOND, GONE) is None
    assert patience.wait(11 * SECOND - 1, GONE) is None
    reason = patience.wait(11 * SECOND, GONE)
    assert reason.kind is HoldKind.LINK
    assert reason.message == (
        "stood for 10 s (fault_after) without a chunk to play: the connection is gone; "
        "call ~/reset to go on"
    )


def test_a_chunk_ends_the_wait_and_a_person_does():
    patience = Patience(10 * SECOND)
    for end in (patience.move, patience.forget):
        patience.move()
        patience.wait(0, GONE)
        end()
        assert patience.wait(20 * SECOND, GONE) is None


def test_zero_waits_for_ever():
    patience = Patience(0)
    patience.move()
    assert patience.wait(0, GONE) is None
    assert patience.wait(3_600 * SECOND, GONE) is None


def test_what_a_person_asked_for_is_no_starvation():
    patience = Patience(SECOND)
    patience.move()
    asked = Hold(HoldKind.REQUESTED, "held by /hold")
    assert patience.wait(0, asked) is None
    assert patience.wait(60 * SECOND, asked) is None


@pytest.mark.parametrize(("seconds", "goes_on"), [(1, True), (8, True), (12, False), (600, False)])
def test_a_server_that_comes_back_starts_the_robot_only_if_it_stood_for_a_moment(
    world, seconds, goes_on
):
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), moving())
    world.event(LinkDown("the server is gone"))
    world.pass_time(seconds * 1_000)
    assert world.status.resumes_by_itself is goes_on
    then = "" if goes_on else "; then call ~/reset to go on"
    assert world.status.message == f"the server is gone{then}"
    world.up()
    request = world.pass_time(500, until=SendRequest)
    assert (request is not None) is goes_on
    if not goes_on:
        assert (world.status.state, world.status.cause) == (State.HOLDING, Cause.LINK)
        world.bridge.reset(world.now)
        request = world.pass_time(500, until=SendRequest)
    world.answer(request)
    assert world.status.state is State.RUNNING


def test_a_robot_that_is_held_meanwhile_is_not_latched(world):
    world.run()
    world.bridge.hold(world.now)
    world.event(LinkDown("the server is gone"))
    world.pass_time(60_000)
    world.up()
    world.bridge.reset(world.now)
    world.event(RequestFailure(1, FailureKind.LINK, "gone"))
    world.answer(world.pass_time(500, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_what_was_observed_before_the_robot_held_does_not_start_it_again(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    effects = world.answer(request, moving(), latency_ms=800)
    assert [e for e in effects if isinstance(e, PublishChunk)] == []
    assert (world.status.state, world.status.cause) == (State.HOLDING, Cause.EXHAUSTED)
    newer = world.pass_time(40, until=SendRequest)  # at once
    assert newer.observation.oldest_ns > request.observation.oldest_ns + 700 * MS
    world.answer(newer, moving())
    assert world.status.state is State.RUNNING

"""bridge.py: the first actions of an answer move the robot before the rest comes."""

import numpy as np
import pytest
from bridge_world import METADATA, World, moving, of

from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishPlan,
    PublishTrajectory,
    SendRequest,
)
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.link.events import (
    FailureKind,
    FirstActionsCame,
    LinkUp,
    RequestFailure,
)
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

STEPS = 10
GIVES = {"supports": ["first_actions"]}


@pytest.fixture
def world(settings, replace):
    """An active robot that waits for its first chunk, and asks for ten steps ahead."""
    world = World(replace(settings, first_actions=STEPS))
    world.bridge.activate(world.now)
    world.event(LinkUp(METADATA | GIVES))
    world.request = world.pass_time(100, until=SendRequest)
    return world


def come(world, actions=None, request=None):
    request = world.request if request is None else request
    actions = moving()[:STEPS] if actions is None else actions
    return world.event(FirstActionsCame(request.request_id, {"actions": actions}))


def test_a_robot_that_holds_moves_on_first_actions_and_goes_on_by_the_rest(world):
    assert world.request.first_actions == STEPS
    effects = come(world)
    assert of(effects, PublishPlan)
    assert not of(effects, PublishChunk), "a chunk is published whole"
    assert world.status.state is State.RUNNING
    first = world.bridge._arm.player.plan
    effects = world.answer(world.request, moving(), latency_ms=100)
    (chunk,) = of(effects, PublishChunk)
    assert chunk.sequence == first.sequence == world.status.sequence
    assert chunk.actions.shape == (50, 3)
    assert chunk.start_ns == first.start_ns, "the rest follows at the pace of the first steps"
    world.pass_time(600)
    assert world.measured[0] > 0.15


def test_an_error_after_first_actions_brakes_and_the_next_request_starts_anew(world):
    come(world)
    world.pass_time(60)
    world.event(RequestFailure(world.request.request_id, FailureKind.SERVER, "boom"))
    assert world.status.state is State.HOLDING
    request = world.pass_time(1_000, until=SendRequest)
    sequence = world.bridge._sequence
    world.answer(request)
    assert world.status.state is State.RUNNING
    assert world.status.sequence == sequence + 1


def test_silence_after_first_actions_ends_in_a_hold(world):
    come(world)
    world.pass_time(1_000)
    assert world.status.state is State.HOLDING
    assert world.speed == 0.0
    # the answer was observed before the robot held: the next observation starts it
    world.answer(world.request, moving())
    assert world.status.state is State.HOLDING
    world.answer(world.pass_time(400, until=SendRequest))
    assert world.status.state is State.RUNNING


@pytest.mark.parametrize(
    "actions",
    [
        np.full((STEPS, 3), np.nan),
        moving()[: STEPS + 1],
        moving()[:STEPS, :2],
        "ten",
        moving()[:STEPS] + 5.0,
    ],
)
def test_first_actions_that_cannot_be_played_leave_the_word_to_the_answer(world, actions):
    before = world.status
    come(world, actions)
    assert world.status.state is before.state
    assert world.bridge._arm.player.plan is None
    world.answer(world.request)
    assert world.status.state is State.RUNNING


def test_first_actions_of_an_answer_that_is_there_or_unwanted_are_nobodys(world):
    world.answer(world.request, moving())
    plan = world.bridge._arm.player.plan
    come(world)
    assert world.bridge._arm.player.plan is plan
    request = world.pass_time(2_000, until=SendRequest)
    world.bridge.hold(world.now)
    come(world, request=request)
    assert world.bridge._arm.player.plan is None


def test_a_stop_between_the_two_holds_whatever_comes(world):
    come(world)
    world.bridge.hold(world.now)
    world.collect()
    world.answer(world.request, moving(), latency_ms=100)
    assert world.bridge._arm.player.plan is None
    world.pass_time(600)
    assert world.speed == 0.0


@pytest.mark.parametrize(("steps", "metadata"), [(0, GIVES), (STEPS, {}), (50, GIVES)])
def test_who_does_not_want_or_cannot_get_them_asks_for_none(settings, replace, steps, metadata):
    world = World(replace(settings, first_actions=steps))
    world.bridge.activate(world.now)
    world.event(LinkUp(METADATA | metadata))
    assert world.pass_time(100, until=SendRequest).first_actions == 0


def test_a_dry_run_shows_first_actions_and_commands_nothing(parameters):
    dry = settings_from_parameters(parameters | {"dry_run": True, "first_actions": STEPS})
    world = World(dry)
    world.bridge.activate(world.now)
    world.event(LinkUp(METADATA | GIVES))
    world.request = world.pass_time(100, until=SendRequest)
    assert of(come(world), PublishPlan)
    world.pass_time(200)
    assert not world.all(PublishTrajectory)

"""bridge.py: a camera that is silent is named."""

import pytest
from bridge_world import METADATA, MS, World, comes_to_rest, moving

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.effects import PublishTrajectory, SendRequest
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import LinkUp


def test_a_silent_camera_is_named_while_it_holds(world):
    world.bridge.activate(world.now)
    world.up()
    world.silent = {"wrist"}
    assert world.pass_time(500, until=SendRequest) is None
    assert world.status.state is State.HOLDING
    assert world.status.message == "no image received yet from camera wrist (/wrist/image_raw)"
    world.silent = set()
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_camera_that_falls_silent_is_named_at_once_and_stops_the_robot_in_the_end(
    world, settings, replace
):
    world.run()
    world.silent = {"scene"}
    world.pass_time(460)
    assert world.status.state is State.RUNNING
    assert world.status.message.startswith(
        "playing what is left: camera scene (/scene/image_raw) is stale"
    )
    world.pass_time(1_000)
    assert world.status.state is State.HOLDING
    assert world.status.message.startswith("camera scene (/scene/image_raw) is stale")
    assert comes_to_rest(world)


@pytest.fixture
def watching(settings, replace):
    """A world whose images are looked at."""
    observation = replace(settings.observation, max_frozen_ns=1_000 * MS)
    return World(replace(settings, observation=observation))


def test_a_picture_that_hangs_stops_a_robot_that_moves_by_it(watching):
    watching.run()
    watching.answer(watching.pass_time(600, until=SendRequest), moving())
    watching.frozen = {"wrist"}
    requests = 0
    for _ in range(10):
        request = watching.pass_time(100, until=SendRequest)
        if request is not None:
            requests += 1
            watching.answer(request, moving())
    assert requests > 0
    watching.pass_time(200)
    status = watching.status
    assert (status.state, status.cause) == (State.HOLDING, Cause.OBSERVATION)
    assert status.message.startswith("camera wrist (/wrist/image_raw) is frozen: its images")
    assert comes_to_rest(watching)
    assert watching.pass_time(1_000, until=SendRequest) is None
    watching.frozen = set()
    assert watching.pass_time(300, until=SendRequest) is not None


def test_a_robot_is_not_started_by_a_picture_that_hangs(watching):
    watching.frozen = {"scene"}
    watching.bridge.activate(watching.now)
    watching.up()
    request = watching.pass_time(100, until=SendRequest)
    watching.answer(request, latency_ms=1_200)
    assert watching.pass_time(500, until=SendRequest) is None
    assert "is frozen" in watching.status.message
    assert watching.all(PublishTrajectory) == []


def test_still_pictures_are_nothing_where_that_is_switched_off(world):
    world.frozen = {"scene", "wrist"}
    world.run()
    for _ in range(10):
        world.answer(world.pass_time(1_000, until=SendRequest))
    assert world.now > 3_000 * MS
    assert world.status.state is State.RUNNING


def test_a_running_number_in_a_message_is_no_news_but_another_cause_is(world):
    world.run()
    running = world.status
    assert running.differs_from(None)
    world.silent = {"scene"}
    world.pass_time(420)
    first = world.status
    assert first.differs_from(running)
    world.pass_time(40)
    assert world.status.message != first.message
    assert not world.status.differs_from(first)


def test_ros_time_that_has_not_begun_is_named_before_the_server_and_every_sensor(settings):
    bridge = Bridge(settings)
    bridge.command_topics(0, [])
    bridge.activate(0)
    for connect in (lambda: None, lambda: bridge.link_event(0, LinkUp(METADATA))):
        connect()
        bridge.tick(0)
        status = bridge.status(0)
        assert status.state is State.HOLDING
        assert status.message.startswith("no message on /clock yet: use_sim_time is true")
    assert bridge.observation_problem.message == status.message
    bridge.tick(1)
    assert "/clock" not in bridge.status(1).message

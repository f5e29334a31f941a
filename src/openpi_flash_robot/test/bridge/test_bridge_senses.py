"""bridge.py: a camera that is silent is named."""

from bridge_world import METADATA, comes_to_rest

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.bridge.status import State
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

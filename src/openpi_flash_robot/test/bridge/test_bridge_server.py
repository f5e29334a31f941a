"""bridge.py: servers that do not fit, turn into others, or are lost."""

from bridge_world import PERIOD, World, comes_to_rest, of

from openpi_flash_robot.bridge.drop_reason import DropReason
from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishTrajectory,
    Reconnect,
    SendRequest,
    Warn,
)
from openpi_flash_robot.bridge.server_state import RECHECK_NS
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.link.events import FailureKind, LinkDown, RequestFailure


def test_a_server_for_another_robot_is_a_fault_until_another_one_answers(world):
    world.bridge.activate(world.now)
    world.up(action_names=["x", "y", "z"])
    assert world.pass_time(500, until=SendRequest) is None
    assert world.status.state is State.FAULT
    assert "the server's actions are x, y, z" in world.status.message
    world.event(LinkDown("restarted"))
    world.up()
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_server_that_does_not_fit_is_asked_again_and_again_who_it_is(world):
    world.bridge.activate(world.now)
    for _ in range(2):
        world.up(action_names=["x", "y", "z"])
        before = world.now
        assert world.pass_time(5_000, until=Reconnect) is not None
        assert before + RECHECK_NS <= world.now < before + RECHECK_NS + PERIOD
        assert world.pass_time(5_000, until=Reconnect) is None
    world.up()
    assert world.pass_time(5_000, until=Reconnect) is None


def test_a_server_of_velocities_is_a_fault_and_nothing_moves(world):
    world.bridge.activate(world.now)
    velocity = {"interface": "velocity", "unit": "rad/s", "reference": "absolute"}
    world.up(actions=[{"name": name} | velocity for name in ("shoulder", "elbow", "gripper")])
    assert world.pass_time(2_000, until=SendRequest) is None
    assert world.status.state is State.FAULT
    assert world.status.message.startswith(
        "the server's action shoulder (velocity, rad/s, absolute) is not of kind position, which "
        "this node expects by its parameter action_kind"
    )
    assert world.all(PublishTrajectory) == []


def test_settings_that_do_not_allow_to_move_are_a_fault_before_the_server(settings, replace):
    world = World(replace(settings, unmoved_joints=(), controllers=settings.controllers[:1]))
    world.bridge.activate(world.now)
    world.up()
    assert world.pass_time(2_000, until=SendRequest) is None
    assert world.status.state is State.FAULT
    assert world.status.message.startswith("no controller moves gripper")


def test_a_server_that_turns_into_another_one_in_the_middle_stops_the_robot(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.up(action_names=["x", "y", "z"])
    assert comes_to_rest(world)
    assert world.status.state is State.FAULT
    assert of(world.answer(request), PublishChunk) == []
    world.up()
    assert world.pass_time(100, until=SendRequest) is not None


def test_a_wrong_key_is_a_fault(world):
    world.event(LinkDown("the server refused the api key", needs_human=True))
    assert (world.status.state, world.status.message) == (
        State.FAULT,
        "the server refused the api key",
    )
    world.up()
    assert world.status.state is State.PAUSED


def test_warnings_of_the_agreement_are_passed_on(world):
    effects = world.up(
        image_specs=[{"path": ["observation/scene_image"], "target_shape": [224, 224, 3]}]
    )
    assert [effect.message for effect in of(effects, Warn)] == [
        "camera wrist goes to observation/wrist_image, where the server reads no image"
    ]


def test_a_request_that_was_lost_with_the_link_leaves_the_reason_to_the_link(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    (stats,) = world.event(RequestFailure(request.request_id, FailureKind.LINK, "lost"))
    assert stats.drop_reason == DropReason.LINK
    assert world.status.state is State.RUNNING
    world.event(LinkDown("lost"))
    assert comes_to_rest(world)


def test_a_superseded_request_is_simply_asked_again(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.event(RequestFailure(request.request_id, FailureKind.SUPERSEDED, "newer wins"))
    assert world.status.state is State.RUNNING
    assert world.pass_time(40, until=SendRequest) is not None

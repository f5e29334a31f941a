"""get_action_chunk.py on a real graph: one chunk that the node does not play."""

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from std_srvs.srv import SetBool

from openpi_flash_msgs.msg import ActionChunk, PolicyStatus
from openpi_flash_msgs.srv import GetActionChunk


@pytest.fixture
def paused(robot, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    assert robot.call(SetBool, "pause", data=True).success
    robot.until_commanded_to_stand()
    return robot


def call_later(robot, **fields):
    """Call the service; the future of its answer."""
    client = robot.node.create_client(GetActionChunk, "/openpi/client_node/get_action_chunk")
    robot.ros.until(client.service_is_ready, "the service")
    return client.call_async(GetActionChunk.Request(**fields))


def test_it_answers_a_chunk_for_the_observation_of_now_and_moves_nothing(ros, paused, server):
    published, sent = len(paused.chunks), len(paused.trajectories["arm"])
    answer = paused.call(GetActionChunk, "get_action_chunk", prompt="open the drawer")
    assert (answer.success, answer.message) == (True, "")
    chunk = answer.chunk
    assert isinstance(chunk, ActionChunk)
    assert (chunk.horizon, chunk.sequence, chunk.first_step) == (50, 0, 0)
    np.testing.assert_allclose(
        np.reshape(chunk.values, (50, 3)), np.tile([0.1, 0.2, 0.5], (50, 1)), rtol=1e-6
    )
    assert (chunk.prompt, chunk.prompt_version) == ("open the drawer", 0)
    assert server.requests[-1]["prompt"] == "open the drawer"
    assert paused.status.prompt == "stack the cubes"
    ros.turn(0.4)
    assert (len(paused.chunks), len(paused.trajectories["arm"])) == (published, sent)


def test_the_node_lives_on_while_a_chunk_is_inferred_and_others_are_told(ros, paused, server):
    server.answering.clear()
    first = call_later(paused, timeout=Duration(sec=20))
    beats = len(paused.statuses)
    ros.until(lambda: len(paused.statuses) >= beats + 3, "heartbeats meanwhile")
    second = paused.call(GetActionChunk, "get_action_chunk")
    assert not second.success
    assert second.message.startswith("another chunk is being inferred")
    assert not first.done()
    server.answering.set()
    ros.until(first.done, "the first chunk")
    assert first.result().success
    assert paused.call(GetActionChunk, "get_action_chunk").success


def test_a_late_answer_is_an_error_by_the_callers_time(paused, server):
    server.answering.clear()
    answer = paused.call(GetActionChunk, "get_action_chunk", timeout=Duration(nanosec=300_000_000))
    assert not answer.success
    assert "0.3" in answer.message
    server.answering.set()


def test_a_refusing_server_and_a_missing_camera_are_named(ros, paused, server):
    server.answer = lambda _: ("bad_request", "no such robot")
    assert "no such robot" in paused.call(GetActionChunk, "get_action_chunk").message
    paused.silent = {"scene"}
    ros.turn(0.5)
    assert "camera scene" in paused.call(GetActionChunk, "get_action_chunk").message


def test_a_robot_that_plays_chunks_refuses(robot, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    answer = robot.call(GetActionChunk, "get_action_chunk")
    assert not answer.success
    assert "pause it (~/pause)" in answer.message


def test_who_waits_is_answered_when_the_node_is_deactivated(ros, robot, server, make_node):
    node = make_node(wait_for_goal=True)
    robot.until_state(PolicyStatus.PAUSED, "no goal")
    ros.turn(0.3)
    server.answering.clear()
    future = call_later(robot)
    ros.until(lambda: node._live_bridge._single.is_sent, "the request on the link")
    node.trigger_deactivate()
    ros.until(future.done, "an answer")
    assert (future.result().success, future.result().message) == (False, "not active")
    server.answering.set()

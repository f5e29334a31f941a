"""run_policy.py on a real graph: goals as a behaviour tree sends them, and their twins."""

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from rclpy.action import ActionClient
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from conftest import latched
from openpi_flash_msgs.action import RunPolicy
from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_msgs.srv import SetPrompt

SPEED = 0.15


def move_slowly(observation):
    """The shoulder moves from where it is, at SPEED."""
    path = np.arange(1, 51)[:, np.newaxis] * 0.04 * [SPEED, 0.0, 0.0]
    return {
        "actions": observation["observation/state"] + path,
        "subtask": {"text": "reach", "ms": 1.0},
    }


class Tree:
    """Sends goals as a behaviour tree does, and remembers the feedback."""

    def __init__(self, robot):
        self.ros, self.feedback = robot.ros, []
        self.client = ActionClient(robot.node, RunPolicy, "/openpi/client_node/run_policy")

    def send(self, prompt="", seconds=0):
        """Send a goal; its handle once it is accepted or rejected."""
        self.ros.until(self.client.server_is_ready, "the action server")
        goal = RunPolicy.Goal(prompt=prompt, max_duration=Duration(sec=seconds))
        sent = self.client.send_goal_async(
            goal, feedback_callback=lambda message: self.feedback.append(message.feedback)
        )
        self.ros.until(sent.done, "an answer to the goal")
        return sent.result()

    def result_of(self, handle, timeout=30.0):
        future = handle.get_result_async()
        self.ros.until(future.done, "the goal's result", timeout)
        return future.result()

    def end_of(self, handle):
        found = self.result_of(handle)
        return found.status, found.result.reason


@pytest.fixture
def tree(robot):
    tree = Tree(robot)
    yield tree
    tree.client.destroy()


def until_moving(robot):
    heard = robot.trajectories["arm"]
    robot.ros.until(
        lambda: heard and heard[-1].points[0].velocities[0] > 0.9 * SPEED, "a moving shoulder"
    )


def test_a_goal_runs_shows_feedback_and_ends_when_its_time_is_over(
    ros, robot, server, make_node, tree
):
    server.answer = move_slowly
    make_node(wait_for_goal=True)
    robot.until_state(PolicyStatus.PAUSED, "no goal")
    assert server.requests == []
    handle = tree.send("open the drawer", seconds=2)
    assert handle.accepted
    until_moving(robot)
    assert server.requests[-1]["prompt"] == "open the drawer"
    assert server.resets == 1, "a goal begins a new episode"
    ros.until(lambda: tree.feedback and tree.feedback[-1].state == PolicyStatus.RUNNING, "RUNNING")
    feedback = tree.feedback[-1]
    assert feedback.subtask == "reach"
    assert feedback.sequence >= 1
    assert 0 < feedback.steps_buffered <= 50
    found = tree.result_of(handle)
    assert found.status == GoalStatus.STATUS_SUCCEEDED
    assert found.result.reason == RunPolicy.Result.TIMEOUT
    assert found.result.message == "max_duration of 2 s is over"
    assert found.result.elapsed == pytest.approx(2.0, abs=0.5)
    robot.until_commanded_to_stand()
    status = robot.until_state(PolicyStatus.PAUSED, "no goal")
    assert (status.cause, status.episode) == (PolicyStatus.CAUSE_GOAL, 2)


def test_a_canceled_goal_stops_the_arm(robot, server, make_node, tree):
    server.answer = move_slowly
    make_node()
    handle = tree.send()
    until_moving(robot)
    canceled = handle.cancel_goal_async()
    robot.ros.until(canceled.done, "an answer to the cancel request")
    assert len(canceled.result().goals_canceling) == 1
    assert tree.end_of(handle) == (GoalStatus.STATUS_CANCELED, RunPolicy.Result.CANCELED)
    robot.until_commanded_to_stand()
    robot.until_state(PolicyStatus.PAUSED, "no goal")


def test_a_newer_goal_takes_over_and_the_arm_moves_on(robot, server, make_node, tree):
    server.answer = move_slowly
    make_node()
    first = tree.send("one")
    until_moving(robot)
    second = tree.send("two")
    assert tree.end_of(first) == (GoalStatus.STATUS_ABORTED, RunPolicy.Result.SUPERSEDED)
    assert robot.status.state == PolicyStatus.RUNNING
    robot.ros.until(lambda: server.requests[-1]["prompt"] == "two", "a request for the second")
    assert second.status in (GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_EXECUTING)


def test_an_emergency_stop_aborts_the_goal_and_rejects_others_until_reset(
    robot, server, make_node, tree
):
    server.answer = move_slowly
    estop = robot.node.create_publisher(Bool, "/estop", latched())
    estop.publish(Bool(data=False))
    make_node(emergency_stop_topics=["/estop"], stop_timeout=0.0)
    robot.until_state(PolicyStatus.RUNNING)
    handle = tree.send()
    until_moving(robot)
    estop.publish(Bool(data=True))
    assert tree.end_of(handle) == (GoalStatus.STATUS_ABORTED, RunPolicy.Result.FAULT)
    estop.publish(Bool(data=False))
    robot.until_state(PolicyStatus.HOLDING, "call ~/reset")
    assert not tree.send().accepted
    assert robot.call(Trigger, "reset").success
    robot.until_state(PolicyStatus.PAUSED, "no goal")
    assert tree.send().accepted
    robot.until_state(PolicyStatus.RUNNING)


def test_deactivation_aborts_the_goal_and_an_inactive_node_takes_none(
    robot, server, make_node, tree
):
    node = make_node()
    handle = tree.send()
    robot.until_state(PolicyStatus.RUNNING)
    node.trigger_deactivate()
    assert tree.end_of(handle) == (GoalStatus.STATUS_ABORTED, RunPolicy.Result.DEACTIVATED)
    assert not tree.send().accepted


def test_a_goal_that_runs_when_the_node_is_cleaned_up_or_shut_down_leaves_no_error(
    ros, robot, make_node, tree
):
    node = make_node()
    tree.send()
    robot.until_state(PolicyStatus.RUNNING)
    node.trigger_shutdown()
    ros.turn(0.5)


def test_a_time_below_zero_is_rejected(robot, make_node, tree):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    assert not tree.send(seconds=-1).accepted


def test_goals_without_end_cost_no_processor_time(ros, robot, server, make_node, tree):
    """A coroutine that waits would be polled in each turn of the executor."""
    make_node()
    tree.send()
    robot.until_state(PolicyStatus.RUNNING)
    assert [task for task, *_ in ros.executor._tasks if not task.done()] == []


# --- for who cannot call actions ---


def test_start_and_cancel_are_twins_of_the_action(robot, server, make_node):
    make_node(wait_for_goal=True)
    robot.until_state(PolicyStatus.PAUSED, "no goal")
    answer = robot.call(Trigger, "cancel")
    assert (answer.success, answer.message) == (False, "no goal runs")
    assert robot.call(SetPrompt, "start", prompt="open the drawer").success
    robot.until_state(PolicyStatus.RUNNING)
    assert robot.status.prompt == "open the drawer"
    assert robot.call(Trigger, "cancel").success
    robot.until_state(PolicyStatus.PAUSED, "no goal")


def test_cancel_by_service_aborts_a_goal_of_the_action(robot, make_node, tree):
    make_node()
    handle = tree.send()
    robot.until_state(PolicyStatus.RUNNING)
    assert robot.call(Trigger, "cancel").success
    assert tree.end_of(handle) == (GoalStatus.STATUS_ABORTED, RunPolicy.Result.CANCELED)


def test_start_says_why_it_does_not(robot, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    robot.call(SetBool, "pause", data=True)
    answer = robot.call(SetPrompt, "start", prompt="go")
    assert (answer.success, answer.message) == (False, "paused by ~/pause")
    assert robot.status.prompt == "stack the cubes"

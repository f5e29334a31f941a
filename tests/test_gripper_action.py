"""ros/gripper_action.py against a real action server, by control_msgs' own definitions."""

import sys
import time
import types

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from extra_ros_packages import use_extra_packages
from rclpy.action import ActionServer
from rclpy.executors import SingleThreadedExecutor

from openpi_flash_client_node.ros.gripper_action import GripperAction
from openpi_flash_robot.settings.controllers import Controller, ControllerKind
from sim_robot.ros_domain import reserved_ros_domain

pytestmark = [
    # rclpy imports a message's type support on first use, and that a parser that warns
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),
    pytest.mark.timeout(400),  # the first test builds the packages
]

PERIOD = 20_000_000
SECOND = 1_000_000_000
WIDTH = 0.8


class Graph:
    """A client node and gripper servers in one context, turned by the test."""

    def __init__(self, domain):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = [self.node("client"), self.node("gripper")]

    def node(self, name):
        made = rclpy.create_node(name, context=self.context, use_global_arguments=False)
        self.executor.add_node(made)
        return made

    def until(self, condition, what):
        deadline = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < deadline, what
            self.executor.spin_once(timeout_sec=0.05)

    def turn(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.01)

    def close(self):
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        rclpy.shutdown(context=self.context)


class GripperServer:
    """Remembers the goals that it accepts, and reaches each at once."""

    def __init__(self, graph, kind):
        self.goals, self.cancels = [], 0
        self._server = ActionServer(
            graph.nodes[1],
            kind,
            "/hand/gripper_cmd",
            self._execute,
            cancel_callback=self._cancel,
        )
        self._kind = kind

    def _execute(self, handle):
        self.goals.append(handle.request.command)
        handle.succeed()
        return self._kind.Result()

    def _cancel(self, _):
        self.cancels += 1

    def destroy(self):
        self._server.destroy()


@pytest.fixture(scope="module")
def actions():
    use_extra_packages()
    from control_msgs import action

    return action


@pytest.fixture
def graph(actions):
    with reserved_ros_domain() as domain:
        made = Graph(domain)
        yield made
        made.close()


def controller(action="gripper_command", **more):
    return Controller(
        "hand", "/hand/gripper_cmd", ("hand_joint",), (0,), ControllerKind.GRIPPER,
        action=action, **more,
    )  # fmt: skip


@pytest.fixture
def connected(graph, actions):
    """A gripper's client and its server, which have found each other."""
    server = GripperServer(graph, actions.GripperCommand)
    client = GripperAction(graph.nodes[0], controller(), WIDTH, 20.0)
    graph.until(lambda: client.is_ready, "the client finding the server")
    yield client, server
    client.destroy()
    server.destroy()


def command(client, places, begin=SECOND):
    """One position in each control period."""
    for index, place in enumerate(places):
        client.command(begin + index * PERIOD, float(place))


def test_a_position_that_stays_is_one_goal(graph, connected):
    client, server = connected
    command(client, [0.5] * 200)
    graph.until(lambda: server.goals, "a goal")
    graph.turn(0.3)
    assert [(goal.position, goal.max_effort) for goal in server.goals] == [(0.5, 20.0)]


def test_a_hand_that_closes_gets_five_goals_a_second_at_most_and_the_last_one_is_closed(
    graph, connected
):
    client, server = connected
    command(client, [*np.linspace(0.0, WIDTH, 100), *[WIDTH] * 20])
    graph.until(lambda: server.goals and server.goals[-1].position == WIDTH, "the last goal")
    graph.turn(0.3)
    places = [goal.position for goal in server.goals]
    assert 8 <= len(places) <= 5 * 120 * PERIOD / SECOND + 1
    assert np.all(np.diff(places) > 0.0)


def test_changes_too_small_to_matter_are_no_goals(graph, connected):
    client, server = connected
    command(client, 0.4 + 0.003 * np.sin(np.arange(200)))
    graph.until(lambda: server.goals, "a goal")
    graph.turn(0.3)
    assert len(server.goals) == 1


def test_a_client_that_goes_leaves_the_grip_alone(graph, actions):
    server = GripperServer(graph, actions.GripperCommand)
    client = GripperAction(graph.nodes[0], controller(), WIDTH, 20.0)
    graph.until(lambda: client.is_ready, "the client finding the server")
    command(client, [WIDTH])
    graph.until(lambda: server.goals, "a goal")
    client.destroy()
    graph.turn(0.3)
    assert server.cancels == 0
    assert len(server.goals) == 1
    server.destroy()


def test_readiness_is_noticed_and_a_goal_that_nobody_took_is_sent_again(graph, actions):
    client = GripperAction(graph.nodes[0], controller(), WIDTH, 0.0)
    assert not client.is_ready
    command(client, [0.3] * 3)
    server = GripperServer(graph, actions.GripperCommand)
    graph.until(lambda: client.is_ready, "the client finding the server")
    command(client, [0.3] * 3, begin=2 * SECOND)
    graph.until(lambda: server.goals, "the goal")
    server.destroy()
    graph.until(lambda: not client.is_ready, "the client missing the server")
    client.destroy()


def test_the_newer_action_names_the_joint_as_the_gripper_does(graph, actions):
    server = GripperServer(graph, actions.ParallelGripperCommand)
    own = controller("parallel_gripper_command", joint_names=("left_knuckle",))
    client = GripperAction(graph.nodes[0], own, WIDTH, 12.0)
    graph.until(lambda: client.is_ready, "the client finding the server")
    command(client, [0.2])
    graph.until(lambda: server.goals, "a goal")
    (goal,) = server.goals
    assert (goal.name, list(goal.position), list(goal.effort)) == (["left_knuckle"], [0.2], [12.0])
    client.destroy()
    server.destroy()


@pytest.mark.parametrize(
    ("module", "action", "text"),
    [
        (None, "gripper_command", "needs control_msgs with GripperCommand"),
        (
            types.SimpleNamespace(action=types.SimpleNamespace()),
            "parallel_gripper_command",
            "on Humble set controller.hand.action to gripper_command",
        ),
    ],
)
def test_without_control_msgs_or_with_an_old_one_it_is_said_what_to_install(
    monkeypatch, module, action, text
):
    monkeypatch.setitem(sys.modules, "control_msgs", module)
    with pytest.raises(ImportError, match="sudo apt install ros-.ROS_DISTRO-control-msgs") as error:
        GripperAction(None, controller(action), WIDTH, 0.0)
    assert text in str(error.value)

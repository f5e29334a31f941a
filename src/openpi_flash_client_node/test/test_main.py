"""__main__.py as a process: how it starts, and how it ends."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from rclpy.time import Time

from openpi_flash_msgs.msg import PolicyStatus

WAIT = 60


@pytest.fixture
def parameter_file(tmp_path, parameters, server):
    path = tmp_path / "robot.yaml"

    def write(**changes):
        given = parameters | {"port": server.port} | changes
        path.write_text(yaml.safe_dump({"/**": {"ros__parameters": given}}))
        return path

    return write


@pytest.fixture
def start(ros_domain):
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "openpi_flash_client_node", "--ros-args", *arguments],
            env=os.environ | {"ROS_DOMAIN_ID": str(ros_domain)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


SPEED = 0.15  # rad/s of the shoulder


def move_slowly(observation):
    """A policy's answer: the shoulder moves from where it is, at SPEED."""
    path = np.arange(1, 51)[:, np.newaxis] * 0.04 * [SPEED, 0.0, 0.0]
    return {"actions": observation["observation/state"] + path}


def until_moving(robot, timeout=WAIT):
    """Wait for a trajectory in which the shoulder moves."""
    robot.follows = True
    heard = robot.trajectories["arm"]

    def moves():
        return heard and heard[-1].points[0].velocities[0] > 0.9 * SPEED

    robot.ros.until(moves, "a trajectory that moves the shoulder", timeout)


def assert_braked(robot):
    """The last command brakes after min_lead_time: a motion's window goes on for 0.12 s.

    If the node was kept from running, the arm has begun the ramp of its last window already, and
    ends where that one does.
    """
    robot.until_commanded_to_stand()
    *before, last = robot.trajectories["arm"]
    points = last.points
    speed = max(point.velocities[0] for point in points)
    way = points[-1].positions[0] - points[0].positions[0]
    braked = way < speed * 0.04 + speed**2 / (2 * 5.0) + 1e-4
    stands_as_promised = any(
        abs(points[-1].positions[0] - window.points[-1].positions[0]) < 1e-6
        for window in before[-5:]
    )
    stamps = [Time.from_msg(window.header.stamp).nanoseconds for window in [*before[-5:], last]]
    was_kept = max(np.diff(stamps)) > 0.1e9
    assert way >= 0
    assert braked or (was_kept and stands_as_promised)


def test_a_goal_that_runs_gets_its_result_before_the_process_ends(
    ros, robot, start, parameter_file
):
    from rclpy.action import ActionClient

    from openpi_flash_msgs.action import RunPolicy

    process = start("--params-file", str(parameter_file()))
    robot.until_state(PolicyStatus.RUNNING, timeout=WAIT)
    client = ActionClient(robot.node, RunPolicy, "/openpi/client_node/run_policy")
    ros.until(client.server_is_ready, "the action server")
    sent = client.send_goal_async(RunPolicy.Goal())
    ros.until(sent.done, "an answer to the goal")
    future = sent.result().get_result_async()
    ros.turn(0.3)
    process.send_signal(signal.SIGTERM)
    ros.until(future.done, "the result of the goal")
    assert future.result().result.reason == RunPolicy.Result.DEACTIVATED
    assert process.wait(WAIT) == 0
    client.destroy()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_makes_it_hold_and_end_with_0(robot, server, start, parameter_file, number):
    server.answer = move_slowly
    process = start("--params-file", str(parameter_file(max_tracking_error=[0.0])))
    until_moving(robot)
    process.send_signal(number)
    output, _ = process.communicate(timeout=WAIT)
    assert_braked(robot)
    assert process.returncode == 0, output
    assert "Traceback" not in output


def test_a_parameter_on_the_command_line_wins_over_the_file(robot, start, parameter_file):
    start("--params-file", str(parameter_file(prompt="from the file")), "-p", "prompt:=from here")
    status = robot.until_state(PolicyStatus.RUNNING, timeout=WAIT)
    assert status.prompt == "from here"


def test_the_namespace_can_be_another(robot, start, parameter_file):
    heard = []
    robot.node.create_subscription(PolicyStatus, "/left/status", heard.append, 10)
    start("--params-file", str(parameter_file()), "-r", "__ns:=/left")
    robot.ros.until(lambda: heard, "a status in the other namespace", timeout=WAIT)


def test_without_autostart_it_waits_for_a_lifecycle_manager(robot, start, parameter_file):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    process = start("--params-file", str(parameter_file()), "-p", "autostart:=false")
    assert robot.until_answering() == "unconfigured"
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = {"transition": Transition(id=transition)}
        assert robot.call(ChangeState, "change_state", **request).success
    robot.until_state(PolicyStatus.RUNNING, timeout=WAIT)
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT) == 0


def test_the_transition_shutdown_holds_and_ends_the_process(robot, server, start, parameter_file):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    server.answer = move_slowly
    process = start("--params-file", str(parameter_file(max_tracking_error=[0.0])))
    until_moving(robot)
    shutdown = Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert robot.call(ChangeState, "change_state", transition=shutdown).success
    assert process.wait(WAIT) == 0
    assert_braked(robot)


def test_a_signal_before_anything_was_configured_ends_it_with_0(robot, start, parameter_file):
    process = start("--params-file", str(parameter_file()), "-p", "autostart:=false")
    assert robot.until_answering() == "unconfigured"
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "transport:=pigeon"], "parameter transport must be one of auto, quic, websocket"),
        (["-p", "max_velocty:=1.0"], "unknown parameter max_velocty; the closest known one is"),
        (["-p", "server:="], "Couldn't parse parameter override"),
        (["-p", "server:=0.0.0.0"], "parameter server: "),
        (["-p", "api_key_file:=/nowhere/key"], "api_key_file /nowhere/key: No such file"),
        (["--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_arguments_that_make_no_sense_end_it_with_2_and_one_clear_line(
    start, parameter_file, arguments, message
):
    process = start("--params-file", str(parameter_file()), *arguments)
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 2
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "key",
    ["k3y-of-the-robot: {", "'k3y-of-the-robot", "[k3y-of-the-robot]", '"k3y-of\\nthe-robot"'],
)
def test_a_key_on_the_command_line_that_cannot_be_read_is_not_shown(start, parameter_file, key):
    process = start("--params-file", str(parameter_file()), "-p", f"api_key:={key}")
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 2, output
    assert "k3y" not in output.replace(str(parameter_file()), "")


def test_a_parameter_file_without_its_two_first_lines_is_told_what_they_are(start, tmp_path):
    path = tmp_path / "bare.yaml"
    path.write_text("server: 10.0.0.5\ncameras: [scene]\n")
    output, _ = start("--params-file", str(path)).communicate(timeout=WAIT)
    (line,) = (line for line in output.splitlines() if "begins with `/**:`" in line)
    assert str(path) in output
    assert "ros__parameters:" in line
    assert ".c:" not in line


def test_an_empty_list_in_the_file_ends_it_with_2(start, tmp_path, parameter_file):
    path = tmp_path / "empty.yaml"
    path.write_text("/**:\n  ros__parameters:\n    action_columns: []\n")
    process = start("--params-file", str(parameter_file()), "--params-file", str(path))
    output, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 2
    assert "empty list" in output
    assert "Traceback" not in output


BUGGY = """
import sys
from openpi_flash_client_node.__main__ import main
from openpi_flash_robot.bridge.bridge import Bridge
tick = Bridge.tick
def buggy(self, now):
    if self.status(now).sequence > 2:
        raise RuntimeError("a bug")
    tick(self, now)
Bridge.tick = buggy
sys.exit(main())
"""


def test_a_bug_makes_it_hold_before_it_ends(robot, server, ros_domain, parameter_file):
    server.answer = move_slowly
    parameters = str(parameter_file(max_tracking_error=[0.0]))
    process = subprocess.Popen(
        [sys.executable, "-c", BUGGY, "--ros-args", "--params-file", parameters],
        env=os.environ | {"ROS_DOMAIN_ID": str(ros_domain)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until_moving(robot)
    robot.ros.until(lambda: process.poll() is not None, "the end of the process", WAIT)
    output, _ = process.communicate(timeout=WAIT)
    assert_braked(robot)
    assert process.returncode == 1
    assert "a bug" in output

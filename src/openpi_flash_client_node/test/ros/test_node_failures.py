"""node.py when things go wrong: it holds, says why on status, and goes on by itself afterwards."""

import itertools
import logging
import socket
import time

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from conftest import RosWorld
from openpi_flash_msgs.msg import PolicyStatus

log = logging.getLogger(__name__)


def held_at(robot, measured=(0.1, 0.2)):
    """Wait until the last command to the arm is to rest at a position."""
    np.testing.assert_allclose(robot.until_commanded_to_stand(), measured, atol=1e-6)


def running(robot):
    """Wait until it moves the robot, and the controller has heard of it."""
    robot.until_state(PolicyStatus.RUNNING)
    count = len(robot.trajectories["arm"])
    robot.ros.until(lambda: len(robot.trajectories["arm"]) > count, "a trajectory")


@pytest.mark.parametrize("name", ["scene", "wrist"])
def test_a_camera_that_never_speaks_is_named(robot, make_node, name):
    robot.silent = {name}
    make_node()
    robot.until_state(
        PolicyStatus.HOLDING, f"no image received yet from camera {name} (/{name}/image_raw)"
    )
    robot.silent = set()
    robot.until_state(PolicyStatus.RUNNING)


def test_why_an_input_was_never_heard_is_read_from_the_graph(ros_domain, capfd, robot, make_node):
    """Another process publishes compressed images where plain ones are expected."""
    stranger = RosWorld(ros_domain)
    try:
        camera = stranger.node("camera")
        publisher = camera.create_publisher(CompressedImage, "/color", 2)
        make_node(**{"camera.scene.topic": "/color", "camera.wrist.topic": "/wrist/image"})
        robot.until_state(
            PolicyStatus.HOLDING,
            "no image received yet from camera scene (/color): /color is "
            "sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image; set "
            "camera.scene.image_transport to compressed",
        )
        camera.destroy_publisher(publisher)
        robot.until_state(
            PolicyStatus.HOLDING, "nobody publishes /color; sensor_msgs/msg/Image is on /"
        )
        camera.create_publisher(Image, "/color", 2)
        robot.until_state(
            PolicyStatus.HOLDING, "/camera publishes /color (reliable), but nothing arrives"
        )
        warned = capfd.readouterr().err
        assert "camera wrist: nobody publishes /wrist/image; sensor_msgs/msg/Image is on" in warned
        assert warned.count("camera wrist: ") == 1
    finally:
        stranger.close()


def test_joint_states_that_nobody_publishes_are_explained(robot, make_node):
    make_node(joint_state_topics=["/joints"])
    robot.until_state(
        PolicyStatus.HOLDING,
        "on /joints: nobody publishes /joints; sensor_msgs/msg/JointState is on /joint_states",
    )


def test_joint_states_with_other_names_say_which(robot, make_node):
    robot.names = ["j1", "j2", "j3"]
    make_node()
    robot.until_state(PolicyStatus.HOLDING, "on /joint_states: messages name j1, j2, j3")


def test_joints_that_never_speak_are_named(robot, make_node):
    robot.silent = {"joints"}
    make_node()
    robot.until_state(
        PolicyStatus.HOLDING,
        "no position received yet of shoulder, elbow, gripper on /joint_states",
    )


def test_a_camera_that_falls_silent_stops_the_robot_and_starts_it_again(robot, make_node):
    make_node()
    running(robot)
    robot.silent = {"wrist"}
    robot.until_state(PolicyStatus.HOLDING, "camera wrist (/wrist/image_raw) is s")
    held_at(robot)
    robot.silent = set()
    running(robot)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_camera_whose_picture_hangs_stops_the_robot_until_it_changes(
    robot, make_node, is_compressed
):
    topic = "/wrist/image_raw"
    if is_compressed:
        robot.compress("wrist")
        topic += "/compressed"
    brightness = itertools.cycle(range(256))
    robot.brightness = lambda _: next(brightness)
    make_node(max_frozen_time=0.4, **{"camera.wrist.topic": topic})
    running(robot)
    robot.brightness = lambda name: 7 if name == "wrist" else next(brightness)
    robot.until_state(PolicyStatus.HOLDING, f"camera wrist ({topic}) is frozen")
    held_at(robot)
    robot.brightness = lambda _: next(brightness)
    running(robot)


def test_drivers_that_set_no_stamp_are_named_or_their_messages_count_from_their_arrival(
    robot, make_node
):
    robot.unstamped = {"wrist", "joints"}
    make_node(**{"camera.wrist.stamp": "arrival"})
    robot.until_state(
        PolicyStatus.HOLDING, "positions of shoulder, elbow, gripper on /joint_states come without"
    )
    robot.unstamped = {"scene", "wrist"}
    robot.until_state(
        PolicyStatus.HOLDING, "camera scene (/scene/image_raw) sends images without header.stamp"
    )
    robot.unstamped = {"wrist"}
    running(robot)
    robot.silent = {"wrist"}
    robot.until_state(PolicyStatus.HOLDING, "camera wrist (/wrist/image_raw) is s")


def test_joint_states_without_stamps_count_from_their_arrival(robot, make_node):
    robot.unstamped = {"joints"}
    make_node(joint_state_stamp="arrival")
    running(robot)


def test_a_server_that_leaves_in_the_middle_is_a_hold_and_its_return_a_recovery(
    robot, server, make_node
):
    make_node()
    running(robot)
    server.stop()
    robot.until_state(PolicyStatus.DISCONNECTED)
    held_at(robot)
    server.start()
    running(robot)
    (session,) = server.sessions  # the same through the loss
    assert session.startswith("client_node-")


def test_a_server_that_is_not_there_yet_is_waited_for(robot, server, make_node):
    server.stop()
    make_node(connect_timeout=0.3)
    robot.until_state(PolicyStatus.CONNECTING, "connecting to 127.0.0.1:")
    robot.until_state(PolicyStatus.DISCONNECTED, str(server.port))
    server.start()
    running(robot)


def test_a_server_that_falls_silent_is_a_hold_within_the_timeout(robot, server, make_node):
    make_node(request_timeout=0.3)
    running(robot)
    server.answering.clear()
    robot.until_state(PolicyStatus.HOLDING, "0.3 s")
    held_at(robot)
    server.answering.set()
    running(robot)


def test_a_late_answer_is_a_hold_when_the_chunk_is_too_old(robot, server, make_node):
    make_node(request_timeout=10.0, max_chunk_age=0.5)
    running(robot)
    server.answering.clear()
    robot.until_state(PolicyStatus.HOLDING, "no newer chunk")
    held_at(robot)
    server.answering.set()
    running(robot)


BAD_ANSWERS = {
    "the actions have shape [50, 4], expected [50, 3]": {"actions": np.zeros((50, 4))},
    "the actions have shape [10, 3], expected [50, 3]": {"actions": np.zeros((10, 3))},
    "is not finite: step 0 of shoulder is nan": {"actions": np.full((50, 3), np.nan)},
    "the answer has no actions": {"subtask": {"text": "?"}},
    "away from the measured position of shoulder, max_start_delta is 0.5": {
        "actions": np.full((50, 3), 1.5)
    },
}


@pytest.mark.parametrize("message", BAD_ANSWERS)
def test_a_bad_chunk_never_reaches_a_controller_and_is_named(robot, server, make_node, message):
    server.answer = lambda observation: BAD_ANSWERS[message]
    make_node()
    robot.until_state(PolicyStatus.HOLDING, message)
    assert robot.chunks == []
    assert robot.trajectories["arm"] == []
    server.answer = server.stay
    running(robot)
    robot.ros.until(lambda: robot.stats[-1].chunks_dropped >= 1, "the count of dropped chunks")


def test_a_nan_chunk_stops_a_robot_that_moves(robot, server, make_node):
    make_node()
    running(robot)
    server.answer = lambda observation: {"actions": np.full((50, 3), np.nan)}
    robot.until_state(PolicyStatus.HOLDING, "is not finite")
    held_at(robot)


def test_a_refusal_of_the_server_is_shown_in_its_own_words(robot, server, make_node):
    server.answer = lambda observation: ("bad_request", "observation/state has 3 values, not 7")
    make_node()
    robot.until_state(
        PolicyStatus.HOLDING,
        "the server answered bad_request: observation/state has 3 values, not 7",
    )


def test_a_planner_that_fails_is_shown_while_the_actions_go_on(ros, robot, server, make_node):
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    heard = []
    robot.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    subtask = {"text": "", "ms": 1.0, "age_ms": 0.0}
    subtask["error"] = {"code": "internal", "message": "out of memory"}
    server.answer = lambda observation: server.stay(observation) | {"subtask": subtask}
    make_node()
    message = "acting without a subtask: internal: out of memory"
    robot.until_state(PolicyStatus.RUNNING, message)
    entries = {entry.name: entry for entry in robot.until_new(heard, "diagnostics").status}
    planner = entries["/openpi/client_node: planner"]
    assert (planner.level, planner.message) == (DiagnosticStatus.WARN, "internal: out of memory")
    robot.until_new(robot.chunks, "another chunk")
    words = {"text": "reach for the cube", "ms": 1.0, "age_ms": 0.0}
    server.answer = lambda observation: server.stay(observation) | {"subtask": words}
    ros.until(lambda: robot.status.message == "", "a status without the planner")
    assert robot.status.state == PolicyStatus.RUNNING


def test_an_encoding_that_cannot_be_decoded_is_named(robot, make_node):
    robot.encoding = "32FC1"
    make_node()
    robot.until_state(PolicyStatus.HOLDING, "camera scene (/scene/image_raw): ")
    assert "32FC1" in robot.status.message
    robot.encoding = "rgb8"
    robot.until_state(PolicyStatus.RUNNING)


def test_a_server_for_another_robot_is_a_fault_until_the_right_one_comes(robot, server, make_node):
    server.stop()
    server.start(action_names=["x", "y", "z"])
    make_node()
    robot.until_state(PolicyStatus.FAULT, "the server's actions are x, y, z")
    assert server.requests == []
    server.stop()
    server.start()
    running(robot)


def test_something_else_on_the_port_is_no_server(robot, server, make_node):
    server.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", server.port))
        make_node(connect_timeout=0.3)
        robot.until_state(PolicyStatus.DISCONNECTED, str(server.port))


def test_the_status_changes_once_and_not_with_every_period(ros, robot, make_node):
    make_node()
    running(robot)
    robot.silent = {"scene"}
    robot.until_state(PolicyStatus.HOLDING, "is stale")
    robot.statuses.clear()
    ros.turn(1.2)
    assert 1 <= len(robot.statuses) <= 4  # the heartbeat alone, at 2 Hz


def test_simulated_time_without_a_clock_is_named_and_its_beginning_noticed(ros, robot, make_node):
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock

    make_node(use_sim_time=True, max_observation_age=5.0)
    robot.until_state(PolicyStatus.HOLDING, "no message on /clock yet: use_sim_time is true")
    publisher = robot.node.create_publisher(Clock, "/clock", 10)
    seconds = itertools.count(1)
    robot.node.create_timer(0.02, lambda: publisher.publish(Clock(clock=Time(sec=next(seconds)))))
    robot.until_state(PolicyStatus.HOLDING, "in the future")  # the cameras stamp in real time


def test_a_joint_that_no_controller_moves_is_named_in_the_log(capfd, robot, make_node):
    make_node(controllers=["arm"], **{"controller.hand.joints": None})
    assert "no controller moves gripper:" in capfd.readouterr().err


class SimulatedClock:
    """Publishes /clock, and the robot's drivers stamp by it."""

    def __init__(self, robot):
        from rclpy.clock import Clock, ClockType
        from rclpy.parameter import Parameter
        from rosgraph_msgs.msg import Clock as ClockMessage

        robot.node.set_parameters([Parameter("use_sim_time", value=True)])
        publisher = robot.node.create_publisher(ClockMessage, "/clock", 10)
        self.milliseconds, self.is_running = 5_000, True

        def speak():
            if self.is_running:
                self.milliseconds += 20
                message = ClockMessage()
                message.clock.sec, rest = divmod(self.milliseconds, 1_000)
                message.clock.nanosec = rest * 1_000_000
                publisher.publish(message)

        robot.node.create_timer(0.02, speak, clock=Clock(clock_type=ClockType.STEADY_TIME))


def test_a_clock_that_falls_silent_stops_all_commands_and_its_return_starts_the_robot(
    ros, robot, server, make_node
):
    clock = SimulatedClock(robot)
    make_node(use_sim_time=True)
    running(robot)
    clock.is_running = False
    stopped = time.monotonic()
    robot.until_state(PolicyStatus.HOLDING, "/clock has been silent for")
    log.info(f"the silent clock was noticed after {time.monotonic() - stopped:.2f} s")
    assert robot.status.cause == PolicyStatus.CAUSE_CLOCK
    asked, commanded = len(server.requests), len(robot.trajectories["arm"])
    ros.turn(1.0)
    assert (len(server.requests), len(robot.trajectories["arm"])) == (asked, commanded)
    clock.is_running = True
    running(robot)

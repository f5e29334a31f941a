"""What an arm does when something around its node breaks: server, network, camera, joint states.

Node, server and camera are processes; every figure is read from the controller's reference.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from arm_rig import ACCELERATION, CAMERA_PERIOD, VELOCITY, Rig, Server, rig, swing
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from robot_server_process import Relay, ServerProcess
from sensor_msgs.msg import Image
from std_msgs.msg import String
from test_arm_safety import assert_within_limits, way

from openpi_flash_msgs.msg import PolicyStatus
from sim_robot.robot import (
    CAMERAS,
    JOINT_STATES_TOPIC,
    REFERENCE_TOPIC,
    TRAJECTORY_TOPIC,
    camera_topic,
)
from sim_robot.ros_domain import reserved_ros_domain

# rclpy imports a message's type support on first use, and that a parser that warns
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

log = logging.getLogger(__name__)

CHUNK_AGE = 1.0
"""Seconds: a chunk of 50 steps at 25 Hz is played until half of it is over."""
BRAKING = VELOCITY / ACCELERATION
STANDS_WITHIN = CHUNK_AGE + BRAKING + 0.3
"""Seconds: the chunk's age, braking, and the control periods and lead time around it."""


@contextlib.contextmanager
def rig_with(directory, server, **changes):
    """A rig whose arm moves at full speed by a server that a test has made."""
    with reserved_ros_domain() as domain:
        made = Rig(domain, directory, server)
        try:
            made.start_node(**changes)
            made.until_moving()
            yield made
        finally:
            made.close()


def stands_without_answers(made, broken, name):
    """Assert that the arm stands in time, and how it came there; the status by then."""
    made.until_standing()
    distance, seconds = way(made, broken)
    status = made.statuses[-1][1]
    log.info(f"{name}: {distance:.3f} rad in {seconds:.3f} s: {status.state} {status.message}")
    assert_within_limits(made, broken)
    assert 0.0 < seconds <= STANDS_WITHIN
    assert distance <= VELOCITY * STANDS_WITHIN
    return status


def goes_on(made, since, *, by_itself=True):
    """Assert that the arm moves again; the seconds that took."""
    if by_itself:
        assert all(status.resumes_by_itself for at, status in made.statuses if at >= since)
    again = made.until_moving()
    made.wait(0.5)
    assert_within_limits(made, since)
    return again


def waits_for_a_person(made, broken, mend):
    """Assert that the arm does not move when the fault is mended, before it is told to go on."""
    _, status = made.until_status(None, "call ~/reset to go on", since=broken)
    log.info(f"waits: {status.message}")
    assert not status.resumes_by_itself
    mend()
    mended = made.now
    waits = "stood for 1 s (fault_after) without a chunk to play: "
    _, status = made.until_status(PolicyStatus.HOLDING, waits, since=mended)
    assert not status.resumes_by_itself
    made.wait(1.0)
    _, _, velocities, _ = made.reference(mended)
    assert np.abs(velocities).max() < 1e-9
    told = made.now
    made.call("reset")
    log.info(f"told: moves after {goes_on(made, told, by_itself=False) - told:.2f} s")


def test_a_killed_server_lets_the_arm_stand_and_a_restarted_one_lets_it_go_on(tmp_path):
    with rig_with(tmp_path, ServerProcess()) as made:
        broken = made.now
        made.server.kill()
        stands_without_answers(made, broken, "killed")
        _, status = made.until_status(PolicyStatus.DISCONNECTED, since=broken)
        log.info(f"killed: {status.message}")
        back = made.now
        made.server.start()
        log.info(f"restarted: moves after {goes_on(made, back) - back:.2f} s")


def test_a_server_that_is_restarted_at_once_lets_the_arm_go_on(tmp_path):
    with rig_with(tmp_path, Server(swing())) as made:
        broken = made.now
        made.server.close()
        made.server = Server(swing(), port=made.server.port)
        made.until(lambda: made.server.answered > 1, "answers of the new server")
        again = goes_on(made, broken)
        _, _, velocities, _ = made.reference(broken, again)
        stood = 0.002 * int((np.abs(velocities).max(axis=1) < 1e-6).sum())
        said = {s.message for at, s in made.statuses if broken <= at and s.state != s.RUNNING}
        log.info(f"closed and restarted: stood for {stood:.2f} s: {said}")


def test_a_server_killed_for_longer_than_fault_after_waits_for_a_person(tmp_path):
    with rig_with(tmp_path, ServerProcess(), fault_after=1.0) as made:
        broken = made.now
        made.server.kill()
        stands_without_answers(made, broken, "killed for long")
        waits_for_a_person(made, broken, made.server.start)


def test_a_stopped_server_lets_the_arm_stand_and_a_continued_one_lets_it_go_on(tmp_path):
    with rig_with(tmp_path, ServerProcess()) as made:
        broken = made.now
        made.server.signal(signal.SIGSTOP)
        status = stands_without_answers(made, broken, "stopped")
        assert status.state in (PolicyStatus.HOLDING, PolicyStatus.DISCONNECTED)
        assert status.message
        back = made.now
        made.server.signal(signal.SIGCONT)
        log.info(f"continued: moves after {goes_on(made, back) - back:.2f} s")


def test_a_server_that_never_answers_lets_the_arm_stand_until_it_does(tmp_path):
    answers = threading.Event()
    answers.set()
    moves = swing()

    def hanging(state):
        answers.wait(60)
        return moves(state)

    with rig_with(tmp_path, Server(hanging)) as made:
        broken = made.now
        answers.clear()
        status = stands_without_answers(made, broken, "hanging")
        assert status.state == PolicyStatus.HOLDING
        assert status.message
        back = made.now
        answers.set()
        log.info(f"answers again: moves after {goes_on(made, back) - back:.2f} s")


def test_a_network_cut_for_a_second_lets_the_arm_go_on_by_itself(tmp_path):
    with rig_with(tmp_path, Relay(Server(swing()))) as made:
        broken = made.now
        made.server.is_cut = True
        made.wait(1.0)
        made.server.is_cut = False
        back = made.now
        again = goes_on(made, back)
        _, _, velocities, _ = made.reference(broken, again)
        stood = 0.002 * int((np.abs(velocities).max(axis=1) < 1e-6).sum())
        log.info(f"cut for 1 s: moves after {again - back:.2f} s, stood for {stood:.2f} s")
        assert again - back <= 3.0


def test_a_network_cut_for_longer_than_fault_after_waits_for_a_person(tmp_path):
    with rig_with(tmp_path, Relay(Server(swing())), fault_after=1.0) as made:
        broken = made.now
        made.server.is_cut = True
        stands_without_answers(made, broken, "cut")
        waits_for_a_person(made, broken, made.server.mend)


class CameraProcess:
    """A camera's driver as a process."""

    def __init__(self, made, name):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "camera_process", camera_topic(name)],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(sys.path), "ROS_DOMAIN_ID": str(made.domain)},
        )
        made.processes.append(self.process)


def test_a_killed_camera_driver_lets_the_arm_stand_and_a_started_one_lets_it_go_on(tmp_path):
    with rig(tmp_path, swing()) as made:
        made.arm.blind = {"wrist"}
        driver = CameraProcess(made, "wrist")
        made.start_node()
        made.until_moving()
        driver.process.kill()
        killed = made.now
        at, status = made.until_status(PolicyStatus.HOLDING, "camera wrist", since=killed)
        made.until_standing()
        distance, seconds = way(made, killed)
        log.info(f"driver killed: {distance:.3f} rad in {seconds:.3f} s: {status.message}")
        assert_within_limits(made, killed)
        assert at - killed <= 0.5 + 0.15
        assert seconds <= 0.85
        back = made.now
        CameraProcess(made, "wrist")
        log.info(f"driver started: moves after {goes_on(made, back) - back:.2f} s")


def show(made, name, height, width, encoding, *, channels=3, padding=0):
    """Let a camera send other images from now on."""
    made.arm.blind = {name}
    topic = made.arm._pictures[name]

    def publish():
        step = width * channels + padding
        image = Image(height=height, width=width, step=step, encoding=encoding)
        image.data = array.array("B", bytes(height * step))
        image.header.stamp = made.arm.get_clock().now().to_msg()
        topic.publish(image)

    return made.on_ros(lambda: made.arm.create_timer(CAMERA_PERIOD, publish))


def test_a_camera_that_changes_its_size_and_encoding_is_used_or_named(tmp_path):
    with rig(tmp_path, swing()) as made:
        made.start_node()
        made.until_moving()
        begin = made.now
        for shape in (
            (48, 64, "bgr8"),
            (480, 640, "rgb8"),
            (31, 33, "rgba8", 4, 5),
            (24, 32, "mono8", 1),
        ):
            names = dict(zip(("channels", "padding"), shape[3:], strict=False))
            timer = show(made, "wrist", *shape[:3], **names)
            answered = made.server.answered
            made.until(lambda n=answered: made.server.answered > n + 2, f"answers for {shape}")
            made.on_ros(timer.cancel)
        assert not any(at >= begin and s.state != PolicyStatus.RUNNING for at, s in made.statuses)
        assert_within_limits(made, begin)
        changed = made.now
        timer = show(made, "wrist", 24, 32, "32FC3", channels=12)
        _, status = made.until_status(PolicyStatus.HOLDING, "32FC3", since=changed)
        made.until_standing()
        distance, seconds = way(made, changed)
        log.info(f"encoding: {distance:.3f} rad in {seconds:.3f} s: {status.message}")
        assert "wrist" in status.message
        made.on_ros(timer.cancel)
        made.arm.blind = set()
        goes_on(made, changed)


@pytest.mark.parametrize("period", [0.1, 0.001])
def test_joint_states_at_ten_and_at_a_thousand_hertz_play_within_limits(
    tmp_path, monkeypatch, period
):
    monkeypatch.setattr("sim_robot.node.TICK", period)
    with rig(tmp_path, swing()) as made:
        made.start_node()
        begin = made.until_moving()
        made.wait(2.5)
        held = [s.message for at, s in made.statuses if at > begin and s.state != s.RUNNING]
        distance, seconds = way(made, begin)
        log.info(f"joint states every {period} s: {distance:.3f} rad in {seconds:.3f} s, {held}")
        assert_within_limits(made, begin)
        assert held == []
        assert distance > 0.5


def test_prompts_at_ten_hertz_ask_no_more_than_they_change(tmp_path):
    with rig(tmp_path, swing()) as made:
        made.start_node()
        begin = made.until_moving()
        topic = made.on_ros(lambda: made.watcher.create_publisher(String, "/openpi/prompt", 10))
        made.until(topic.get_subscription_count, "the node listening to prompts")
        answered = made.server.answered
        made.wait(2.0)
        quiet = made.server.answered - answered
        prompted = made.now
        answered = made.server.answered
        for number in range(20):
            # four changes, one in each half of a second
            prompt = String(data=f"move {number // 5}")
            made.on_ros(lambda sent=prompt: topic.publish(sent))
            made.wait(0.1)
        loud = made.server.answered - answered
        log.info(f"requests in 2 s: {quiet} without prompts, {loud} with 20 prompts, 4 changes")
        assert loud <= quiet + 4 + 2
        assert all(s.state == s.RUNNING for at, s in made.statuses if at >= prompted)
        assert made.statuses[-1][1].prompt == "move 3"
        assert_within_limits(made, begin)


def test_two_hundred_changes_of_parameters_keep_a_moving_arm_within_limits(tmp_path):
    rng = np.random.default_rng(7)
    methods = ("latest", "open_loop", "temporal_ensemble", "latest_only", "average", "conservative")
    with rig(tmp_path, swing()) as made:
        node = made.start_node()
        begin = made.until_moving()
        name = "/openpi/client_node/set_parameters"
        client = made.on_ros(lambda: made.watcher.create_client(SetParameters, name))
        made.until(client.service_is_ready, name)

        def change(**values):
            wanted = [
                Parameter(key, value=value).to_parameter_msg() for key, value in values.items()
            ]
            request = SetParameters.Request(parameters=wanted)
            future = made.on_ros(lambda: client.call_async(request))
            made.until(future.done, "an answer of set_parameters")
            assert all(result.successful for result in future.result().results), future.result()

        for _ in range(67):
            change(
                max_velocity=[float(rng.uniform(0.2, VELOCITY))],
                blend_time=float(rng.uniform(0.0, 0.5)),
                chunk_method=str(rng.choice(methods)),
            )
        changed = made.now
        distance, _ = way(made, begin)
        holds = {s.message for at, s in made.statuses if at > begin and s.state != s.RUNNING}
        log.info(f"201 changes in {changed - begin:.1f} s, {distance:.3f} rad: {holds}")
        assert distance > 0.2
        assert node.poll() is None
        assert_within_limits(made, begin)
        assert holds <= {"the limits have become narrower"}
        change(max_velocity=[0.2], chunk_method="latest", blend_time=0.1)
        made.wait(0.5)
        narrowed = made.now
        made.until_moving(speed=0.95 * 0.2)
        made.wait(1.0)
        assert_within_limits(made, begin)
        _, _, velocities, _ = made.reference(narrowed)
        assert np.abs(velocities).max() <= 1.01 * 0.2


def test_of_two_arms_with_one_server_one_stops_and_the_other_goes_on(tmp_path):
    names = (JOINT_STATES_TOPIC, TRAJECTORY_TOPIC, REFERENCE_TOPIC, *map(camera_topic, CAMERAS))
    remappings = [f"{name}:=/right{name}" for name in names]
    remappings += ["arm_controller:__ns:=/right", "sim_robot:__ns:=/right"]
    right_parameters = {
        "joint_state_topics": [f"/right{JOINT_STATES_TOPIC}"],
        "controller.arm_controller.topic": f"/right{TRAJECTORY_TOPIC}",
        **{f"camera.{name}.topic": f"/right{camera_topic(name)}" for name in CAMERAS},
    }
    (tmp_path / "right").mkdir()
    with rig(tmp_path, swing()) as left:
        right = Rig(
            left.domain,
            tmp_path / "right",
            left.server,
            namespace="/right",
            remappings=remappings,
        )
        try:
            left.start_node()
            right.start_node(**right_parameters)
            left.until_moving()
            right.until_moving()
            for stopped, other in ((left, right), (right, left)):
                at, since = stopped.now, other.now
                stopped.call("hold")
                stopped.until_standing()
                other.until_moving()
                other.wait(1.0)
                assert all(s.state == s.RUNNING for now, s in other.statuses if now >= since)
                assert_within_limits(other, since)
                distance, seconds = way(stopped, at)
                log.info(f"{stopped.namespace} held: {distance:.3f} rad in {seconds:.3f} s")
                assert_within_limits(stopped, at)
                assert seconds <= 0.5
                stopped.call("reset")
                stopped.until_moving()
        finally:
            right.close()

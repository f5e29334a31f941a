"""The simulated robot as a process: what it publishes, how it moves, how it ends. Real ROS 2."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from openpi_flash_training.demonstrations.expert import chunk
from sim_robot.episode import EpisodeOrder
from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend
from sim_robot.robot import HOME, JOINTS, SCENE_TOPIC
from sim_robot.ros_domain import reserved_ros_domain
from sim_robot.scene_report import parse_report
from sim_robot.tasks import TASKS, Outcome

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

# rclpy imports a message's type support on first use, and that a parser that warns
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

EXAMPLES = Path(__file__).parent.parent / "examples"

try:
    choose_gl_backend()
    HAS_GL = True
except RenderingUnavailableError:
    HAS_GL = False


@contextlib.contextmanager
def sim_robot(*arguments):
    """Start the simulated robot in a domain of its own; yield the process and the domain."""
    with reserved_ros_domain() as domain:
        process = subprocess.Popen(
            [sys.executable, "-m", "sim_robot", *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(EXAMPLES),
                "ROS_DOMAIN_ID": str(domain),
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process, domain
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@contextlib.contextmanager
def listener(domain):
    """Yield a node in the domain and a function that spins it until something holds."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin_until(holds, what, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
            executor.spin_once(timeout_sec=0.1)

    try:
        yield node, spin_until
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def nanoseconds(stamp):
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def stop(process, signal_number):
    process.send_signal(signal_number)
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


def trajectory(joints, *points):
    message = JointTrajectory(joint_names=joints)
    for seconds, positions in points:
        point = JointTrajectoryPoint(positions=positions)
        point.time_from_start.sec = int(seconds)
        point.time_from_start.nanosec = round((seconds % 1) * 1e9)
        message.points.append(point)
    return message


@pytest.mark.skipif(not HAS_GL, reason="no OpenGL on this machine")
def test_it_publishes_joint_states_and_two_cameras_that_share_their_stamps():
    with sim_robot() as (process, domain), listener(domain) as (node, spin_until):
        states, scene, wrist = [], {}, {}
        node.create_subscription(JointState, "/joint_states", states.append, 10)
        for topic, images in (
            ("/scene_camera/image_raw", scene),
            ("/wrist_camera/image_raw", wrist),
        ):
            node.create_subscription(
                Image,
                topic,
                lambda m, images=images: images.update({nanoseconds(m.header.stamp): m}),
                5,
            )
        spin_until(lambda: len(set(scene) & set(wrist)) >= 5 and len(states) >= 50, "five pictures")
        image = next(iter(scene.values()))
        assert (image.width, image.height, image.encoding) == (320, 240, "rgb8")
        assert (image.step, len(image.data)) == (960, 240 * 960)
        assert image.header.frame_id == "scene_camera_optical_frame"
        assert np.frombuffer(image.data, np.uint8).std() > 20
        assert list(states[0].name) == list(JOINTS)
        np.testing.assert_allclose(states[0].position, HOME, atol=1e-3)
        assert len(states[0].velocity) == len(JOINTS)
        # simulated time, not the wall's: 20 ms apart whenever they arrive
        gaps = np.diff([nanoseconds(state.header.stamp) for state in states]) / 1e6
        assert np.median(gaps) == pytest.approx(20, abs=4)
        assert gaps.min() > 0
        age = (node.get_clock().now().nanoseconds - max(scene)) / 1e9
        assert 0 < age < 5
        assert stop(process, signal.SIGTERM)[0] == 0


def test_it_follows_a_trajectory_and_says_where_it_should_be():
    with (
        sim_robot("--camera-hz", "0") as (process, domain),
        listener(domain) as (node, spin_until),
    ):
        measured, reference = [], []
        node.create_subscription(JointState, "/joint_states", measured.append, 10)
        node.create_subscription(JointState, "/arm_controller/reference", reference.append, 10)
        publisher = node.create_publisher(JointTrajectory, "/arm_controller/joint_trajectory", 1)
        spin_until(lambda: publisher.get_subscription_count() and measured, "discovery")
        steps = np.array([0.3, 0.2, -0.2, 0.3, 0.2, 0.4, 0.5])
        target = dict(zip(JOINTS, steps + HOME, strict=True))
        names = sorted(JOINTS)
        publisher.publish(trajectory(names, (1.0, [target[name] for name in names])))

        def arrived():
            return reference and np.allclose(
                reference[-1].position, list(target.values()), atol=1e-6
            )

        spin_until(arrived, "the reference at the target")
        settled = nanoseconds(reference[-1].header.stamp) + 500_000_000
        spin_until(lambda: nanoseconds(measured[-1].header.stamp) > settled, "half a second more")
        np.testing.assert_allclose(measured[-1].position, list(target.values()), atol=3e-3)
        # on the way the arm kept up with the reference
        by_stamp = {nanoseconds(m.header.stamp): m.position for m in measured}
        errors = [
            np.abs(np.subtract(by_stamp[nanoseconds(r.header.stamp)], r.position)).max()
            for r in reference
            if nanoseconds(r.header.stamp) in by_stamp
        ]
        assert len(errors) > 20
        assert np.median(errors) < 0.02
        assert stop(process, signal.SIGINT)[0] == 0


def test_a_trajectory_it_cannot_follow_is_rejected_with_the_reason():
    with (
        sim_robot("--camera-hz", "0") as (process, domain),
        listener(domain) as (node, spin_until),
    ):
        states = []
        node.create_subscription(JointState, "/joint_states", states.append, 10)
        publisher = node.create_publisher(JointTrajectory, "/arm_controller/joint_trajectory", 2)
        spin_until(lambda: publisher.get_subscription_count() and states, "discovery")
        publisher.publish(trajectory(["elbow", "tail"], (1.0, [0.0, 0.0])))
        # in order on one topic: once the second one moves the arm, the first has been judged
        publisher.publish(trajectory(list(JOINTS), (0.5, (np.array(HOME) + 0.1).tolist())))
        spin_until(lambda: abs(states[-1].position[0] - 0.1) < 0.01, "the good trajectory")
        code, output = stop(process, signal.SIGTERM)
        assert code == 0
        assert "trajectory rejected: unknown joints ['tail']" in output


def test_an_ordered_episode_puts_arm_and_cubes_to_its_start_and_is_judged():
    order = EpisodeOrder("touch", "blue_cube", 7, 3)
    with (
        sim_robot("--camera-hz", "0") as (process, domain),
        listener(domain) as (node, spin_until),
    ):
        reports, states = [], []
        node.create_subscription(
            String, SCENE_TOPIC, lambda m: reports.append(parse_report(m.data)), 100
        )
        node.create_subscription(JointState, "/joint_states", states.append, 10)
        publisher = node.create_publisher(JointTrajectory, "/arm_controller/joint_trajectory", 2)
        client = node.create_client(SetParameters, "/sim_robot/set_parameters")
        spin_until(
            lambda: client.service_is_ready() and publisher.get_subscription_count() and reports,
            "discovery",
        )
        assert reports[-1].episode == 0

        def ask(text):
            value = Parameter("episode", value=text).to_parameter_msg()
            answer = client.call_async(SetParameters.Request(parameters=[value]))
            spin_until(answer.done, "an answer")
            return answer.result().results[0]

        refused = ask("touch pink 7 3")
        assert not refused.successful
        assert "'pink' is not one of red, green, blue" in refused.reason
        late = trajectory(list(JOINTS), (5.0, HOME))
        late.header.stamp = node.get_clock().now().to_msg()
        assert ask(str(order)).successful
        spin_until(lambda: reports[-1].episode == 1, "the episode")
        np.testing.assert_allclose(reports[-1].state.joints, order.start().joints, atol=5e-3)
        placed = [(cube.x, cube.y) for cube in order.start().cubes]
        np.testing.assert_allclose([c[:2] for c in reports[-1].state.cubes], placed, atol=1e-3)

        # what was sent before does not lead the arm away; the controller holds the new place
        publisher.publish(late)
        count = len(states)
        spin_until(lambda: len(states) > count + 25, "half a second")
        np.testing.assert_allclose(states[-1].position, order.start().joints, atol=5e-3)
        gaps = np.diff([nanoseconds(state.header.stamp) for state in states])
        assert gaps.min() > 0

        # the hand comes down on the blue cube
        scene = reports[-1].state
        for _ in range(40):
            chunk_of = chunk(TASKS["touch"], order.cube, scene, horizon=10, step_s=0.1)
            publisher.publish(
                trajectory(list(JOINTS), *((0.1 * k, chunk_of[k].tolist()) for k in range(1, 10)))
            )
            count = len(reports)
            spin_until(lambda count=count: len(reports) > count + 10, "a fifth of a second")
            scene = reports[-1].state
            if reports[-1].progress.outcome is not Outcome.RUNNING:
                break
        assert reports[-1].progress.outcome is Outcome.SUCCESS
        assert reports[-1].progress.chosen == "blue_cube"
        assert any(any(row) for report in reports for row in report.commanded)
        code, output = stop(process, signal.SIGTERM)
        assert code == 0
        assert "episode 1: touch the blue cube, start 3 of 7" in output
        assert "trajectory left out: the arm was put to another place after it" in output


def test_a_faster_robot_publishes_the_clock_it_lives_by():
    from rosgraph_msgs.msg import Clock

    with (
        sim_robot("--camera-hz", "0", "--speed", "4") as (process, domain),
        listener(domain) as (node, spin_until),
    ):
        clocks, states = [], []
        node.create_subscription(JointState, "/joint_states", states.append, 10)
        node.create_subscription(
            Clock, "/clock", lambda m: clocks.append((nanoseconds(m.clock), time.monotonic())), 1
        )
        spin_until(lambda: len(clocks) > 50 and len(states) > 50, "fifty ticks of the clock")
        (first, began), (last, ended) = clocks[0], clocks[-1]
        assert (last - first) / 1e9 / (ended - began) == pytest.approx(4, rel=0.2)
        assert stop(process, signal.SIGTERM)[0] == 0


def test_without_opengl_it_ends_with_one_line_that_names_the_packages(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "sim_robot"],
        env={
            **os.environ,
            "PYTHONPATH": str(EXAMPLES),
            "MUJOCO_GL": "egl",
            "__EGL_VENDOR_LIBRARY_DIRS": str(tmp_path),
            "LIBGL_DRIVERS_PATH": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: the cameras cannot be drawn without a screen (egl: ")
    assert "libegl-mesa0" in lines[0]


@pytest.mark.parametrize("arguments", [["--camera-hz", "-1"], ["--speed", "0"], ["--sped", "1"]])
def test_a_wrong_argument_is_named(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "sim_robot", *arguments],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert arguments[0] in result.stderr

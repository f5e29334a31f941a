"""node.py and its cameras over real DDS: frames are found when due, and silence is noticed."""

import array

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_robot.senses.frame_demand import TRIAL

MAX_BLIND_TIME = 0.5


class Camera:
    """A camera with a rate of its own, whose pixels count its frames."""

    def __init__(self, ros, name, hz, *, reliability=ReliabilityPolicy.RELIABLE, delay=0.0):
        self.node = ros.node(f"{name}_camera")
        self.published = 0
        self._delay_ns = round(delay * 1e9)
        profile = QoSProfile(depth=2, reliability=reliability)
        self._publisher = self.node.create_publisher(Image, f"/{name}/image_raw", profile)
        self.timer = self.node.create_timer(1 / hz, self.publish)

    def publish(self):
        self.published += 1
        image = Image(height=48, width=64, step=192, encoding="rgb8")
        image.data = array.array("B", bytes([self.published % 200]) * (48 * 192))
        taken_at = self.node.get_clock().now().nanoseconds - self._delay_ns
        image.header.stamp = Time(nanoseconds=taken_at).to_msg()
        self._publisher.publish(image)


def sensors_of(node):
    return {sensor._topic: sensor for sensor in node._inputs.cameras}


def without_its_own_cameras(robot, *names):
    """Let the fixture's cameras be silent where a test has one with a will of its own."""
    robot.silent |= set(names)


def until_most_frames_are_left_alone(ros, node):
    demand = node._bridge._frame_demand
    ros.until(lambda: not demand.takes_all, "ten observations for which two frames sufficed")


def shares_taken(ros, node, server, cameras):
    """Share of each camera's frames that were taken from now until four requests later."""
    before = {topic: camera.published for topic, camera in cameras.items()}
    taken = {topic: sensor.taken for topic, sensor in sensors_of(node).items()}
    asked = len(server.requests)
    ros.until(lambda: len(server.requests) >= asked + 4, "four requests")
    return [
        (sensor.taken - taken[topic]) / (cameras[topic].published - before[topic])
        for topic, sensor in sensors_of(node).items()
    ]


def test_most_frames_are_not_taken_and_each_request_has_new_ones(ros, robot, server, make_node):
    without_its_own_cameras(robot, "scene", "wrist")
    cameras = {f"/{name}/image_raw": Camera(ros, name, 40) for name in ("scene", "wrist")}
    node = make_node(execution_horizon=10)  # 0.4 s
    robot.until_state(PolicyStatus.RUNNING)
    shares = []
    for _ in range(5):  # after a stall of the machine the node looks at every frame for a while
        until_most_frames_are_left_alone(ros, node)
        shares.append(shares_taken(ros, node, server, cameras))
        if max(shares[-1]) < 0.5:
            break
    assert 0 < min(shares[-1]) <= max(shares[-1]) < 0.5, shares
    shown = [request["observation/scene_image"][112, 112, 0] for request in server.requests[-3:]]
    assert len(set(shown)) == 3
    assert min(stats.observation_age for stats in robot.stats[-5:]) < 0.1


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_a_camera_is_used_whatever_it_offers_and_when_it_comes_late_or_again(
    ros, robot, make_node, reliability
):
    without_its_own_cameras(robot, "wrist")
    make_node()
    robot.until_state(PolicyStatus.HOLDING, "no image received yet from camera wrist")
    camera = Camera(ros, "wrist", 30, reliability=reliability)
    robot.until_state(PolicyStatus.RUNNING)
    ros.remove(camera.node)
    robot.until_state(PolicyStatus.HOLDING, "camera wrist")
    Camera(ros, "wrist", 30, reliability=reliability)
    robot.until_state(PolicyStatus.RUNNING)


def test_a_camera_that_comes_back_as_a_best_effort_one_is_used(ros, robot, make_node):
    without_its_own_cameras(robot, "wrist")
    camera = Camera(ros, "wrist", 30)
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    ros.remove(camera.node)
    robot.until_state(PolicyStatus.HOLDING, "camera wrist")
    Camera(ros, "wrist", 30, reliability=ReliabilityPolicy.BEST_EFFORT)
    robot.until_state(PolicyStatus.RUNNING)


def test_silence_is_noticed_when_the_robot_may_be_blind_no_longer(ros, robot, make_node):
    node = make_node(execution_horizon=40, max_blind_time=MAX_BLIND_TIME)
    robot.until_state(PolicyStatus.RUNNING)
    node._bridge._frame_demand._sufficed = TRIAL  # the node must not look at every frame
    assert not node._bridge._frame_demand.takes_all
    noticed = []
    for _ in range(3):  # on a busy machine once may be late
        robot.silent.add("scene")
        last = robot.node.get_clock().now().nanoseconds
        status = robot.until_state(PolicyStatus.HOLDING, "camera scene (/scene/image_raw)")
        stamp = status.header.stamp.sec * 10**9 + status.header.stamp.nanosec
        noticed.append((stamp - last) / 1e9)
        robot.silent.clear()
        robot.until_state(PolicyStatus.RUNNING)
    assert min(noticed) <= MAX_BLIND_TIME + 0.1


def test_of_cameras_with_different_rates_the_frames_of_one_moment_are_sent(
    ros, robot, server, make_node
):
    without_its_own_cameras(robot, "scene", "wrist")
    Camera(ros, "scene", 60)
    Camera(ros, "wrist", 12)
    node = make_node(execution_horizon=5, max_camera_skew=0.03)
    robot.until_state(PolicyStatus.RUNNING)
    ros.until(lambda: len(robot.stats) >= 8, "answers")
    assert node._bridge._frame_demand.takes_all
    assert np.median([stats.camera_skew for stats in robot.stats]) < 0.02


def test_of_cameras_with_different_delays_the_frames_of_one_moment_are_sent(ros, robot, make_node):
    without_its_own_cameras(robot, "wrist")
    Camera(ros, "wrist", 33, delay=0.12)
    make_node(max_camera_skew=0.035)
    robot.until_state(PolicyStatus.RUNNING)
    ros.until(lambda: len(robot.stats) >= 5, "answers")
    assert np.median([stats.camera_skew for stats in robot.stats]) < 0.025


def test_frames_are_found_by_a_simulators_clock_that_is_slow(ros, robot, server, make_node):
    """A tenth of real time: stamps and deadlines count on /clock alone."""
    without_its_own_cameras(robot, "scene", "wrist", "joints")
    simulator = ros.node("simulator")
    clock = simulator.create_publisher(Clock, "/clock", 10)
    joints = simulator.create_publisher(JointState, "/joint_states", 10)
    cameras = [
        simulator.create_publisher(Image, f"/{name}/image_raw", 2) for name in ("scene", "wrist")
    ]
    count = [0]

    def step():
        count[0] += 1
        stamp_ns = 10**9 + count[0] * 4_000_000
        stamp = Clock().clock
        stamp.sec, stamp.nanosec = divmod(stamp_ns, 10**9)
        clock.publish(Clock(clock=stamp))
        positions = JointState(name=["gripper", "elbow", "shoulder"], position=[0.5, 0.2, 0.1])
        positions.header.stamp = stamp
        joints.publish(positions)
        if count[0] % 8 == 0:
            for camera in cameras:
                image = Image(height=48, width=64, step=192, encoding="rgb8")
                image.data = array.array("B", bytes(48 * 192))
                image.header.stamp = stamp
                camera.publish(image)

    simulator.create_timer(0.01, step)
    make_node(use_sim_time=True)
    robot.until_state(PolicyStatus.RUNNING)
    ros.until(lambda: len(server.requests) >= 4, "requests")

"""Fixtures of the node's tests: a robot that speaks ROS, and a server on a real socket."""

import array
import socket
import time

import numpy as np
import pytest
from scripted_server import METADATA, ScriptedServer, stay

from flash_transport import encode_jpeg

pytest_plugins = ["robot_fixtures"]


def pytest_configure(config):
    # rclpy loads a parser of message definitions that imports it
    config.addinivalue_line("filterwarnings", "ignore:module 'sre_:DeprecationWarning")
    # Kilted's rclpy deprecates Logger.warn, and calls it
    config.addinivalue_line(
        "filterwarnings", "ignore:Deprecated in favor of:DeprecationWarning:rclpy"
    )


# --- real ROS, real sockets ---


@pytest.fixture(autouse=True)
def ros_home(tmp_path, monkeypatch):
    """Black boxes of nodes that hold for a fault go there, not to the user's home."""
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "ros_home"))
    return tmp_path / "ros_home"


@pytest.fixture(scope="session")
def ros_domain():
    """A DDS domain of this process alone: the one who holds its lock port may use it."""
    for domain in range(20, 100):
        lock = socket.socket()
        try:
            lock.bind(("127.0.0.1", 47_000 + domain))
        except OSError:
            lock.close()
            continue
        yield domain
        lock.close()
        return
    pytest.fail("every ROS domain is in use")


@pytest.fixture
def ros(ros_domain):
    """A ROS context with an executor that the test itself turns."""
    world = RosWorld(ros_domain)
    yield world
    world.close()


class RosWorld:
    """Nodes in one context; `until` turns the executor until something is true."""

    def __init__(self, domain):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []

    def add(self, node):
        self.executor.add_node(node)
        self.nodes.append(node)
        return node

    def node(self, name):
        from rclpy.node import Node

        return self.add(Node(name, context=self.context, use_global_arguments=False))

    def remove(self, node):
        self.nodes.remove(node)
        self.executor.remove_node(node)
        node.destroy_node()

    def until(self, condition, what, timeout=30.0):
        """Turn the executor until the condition holds; its value."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout:g} s for {what() if callable(what) else what}")
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def turn(self, seconds):
        """Turn the executor for a while: for what must not happen."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.02)

    def close(self):
        import rclpy

        for node in list(self.nodes):
            self.remove(node)
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


class Robot:
    """Cameras, joints and controllers that speak and listen, and can fall silent."""

    def __init__(self, ros):
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import Image, JointState
        from trajectory_msgs.msg import JointTrajectory

        from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus

        self.ros = ros
        self.node = ros.node("robot")
        self.silent = set()
        self.measured = [0.1, 0.2, 0.5]
        self.follows = False  # the arm is where its newest trajectory has it at each moment
        self.names = ["gripper", "elbow", "shoulder"]
        self.encoding = "rgb8"
        self.unstamped = set()  # cameras and "joints" whose driver sets no stamp
        self.brightness = len  # of each camera's pixels, by its name
        self._cameras = {
            name: self.node.create_publisher(Image, f"/{name}/image_raw", 2)
            for name in ("scene", "wrist")
        }
        self._joints = self.node.create_publisher(JointState, "/joint_states", 10)
        self._timer = self.node.create_timer(0.03, self.speak)
        self.chunks, self.stats, self.statuses = [], [], []
        self.trajectories = {"arm": [], "hand": []}
        self.node.create_subscription(ActionChunk, "/openpi/action_chunk", self.chunks.append, 10)
        self.node.create_subscription(
            InferenceStats, "/openpi/stats", self.stats.append, qos_profile_sensor_data
        )
        self.node.create_subscription(
            PolicyStatus, "/openpi/status", self.statuses.append, latched()
        )
        for name, heard in self.trajectories.items():
            self.node.create_subscription(
                JointTrajectory, f"/{name}/joint_trajectory", heard.append, 10
            )

    def compress(self, name):
        """Have a camera speak as image_transport's compressed publisher does."""
        from sensor_msgs.msg import CompressedImage

        topic = f"/{name}/image_raw/compressed"
        self._cameras[name] = self.node.create_publisher(CompressedImage, topic, 2)

    def speak(self):
        from builtin_interfaces.msg import Time
        from sensor_msgs.msg import Image, JointState

        time_now = self.node.get_clock().now()
        now = time_now.to_msg()
        if self.follows and self.trajectories["arm"]:
            self._follow(self.trajectories["arm"][-1], time_now)
        for name, publisher in self._cameras.items():
            if name not in self.silent:
                pixels = np.full((48, 64, 3), self.brightness(name), np.uint8)
                if publisher.msg_type is Image:
                    image = Image(height=48, width=64, step=192, encoding=self.encoding)
                    image.data = array.array("B", pixels.tobytes())
                else:
                    image = publisher.msg_type(format="rgb8; jpeg compressed bgr8")
                    image.data = array.array("B", encode_jpeg(pixels))
                image.header.stamp = Time() if name in self.unstamped else now
                publisher.publish(image)
        if "joints" not in self.silent:
            joints = JointState(name=self.names, position=self.measured[::-1])
            joints.header.stamp = Time() if "joints" in self.unstamped else now
            self._joints.publish(joints)

    def _follow(self, trajectory, now):
        from rclpy.duration import Duration
        from rclpy.time import Time

        begin = Time.from_msg(trajectory.header.stamp)
        times = [
            (begin + Duration.from_msg(point.time_from_start)).nanoseconds
            for point in trajectory.points
        ]
        for column in range(len(trajectory.joint_names)):
            path = [point.positions[column] for point in trajectory.points]
            self.measured[column] = float(np.interp(now.nanoseconds, times, path))

    def until_commanded_to_stand(self, controller="arm"):
        """Wait until a controller is told to rest and nothing more; where."""
        heard = self.trajectories[controller]
        self.ros.until(lambda: heard, f"a trajectory of {controller}")
        quiet = None
        while quiet != len(heard):
            quiet = len(heard)
            self.ros.turn(0.3)
        assert not any(heard[-1].points[-1].velocities)
        return list(heard[-1].points[-1].positions)

    @property
    def status(self):
        return self.statuses[-1] if self.statuses else None

    def until_state(self, state, text="", timeout=30.0):
        """Wait for a status of this state whose message holds the text."""
        return self.ros.until(
            lambda: (
                self.status
                if self.status and self.status.state == state and text in self.status.message
                else None
            ),
            lambda: f"state {state} with {text!r}; the last status was {self.status}",
            timeout,
        )

    def until_new(self, heard, what, timeout=30.0):
        """Wait for one more message in a list of those heard; the message."""
        count = len(heard)
        self.ros.until(lambda: len(heard) > count, what, timeout)
        return heard[-1]

    def until_answering(self, timeout=60.0):
        """Wait until a node that has just been started answers, and its state.

        A service is found before its process has found the asking one; such an answer is lost, so
        the question is put again.
        """
        from lifecycle_msgs.srv import GetState

        client = self.node.create_client(GetState, "/openpi/client_node/get_state")
        futures = []

        def answered():
            if client.service_is_ready() and (not futures or time.monotonic() > self._ask_after):
                futures.append(client.call_async(GetState.Request()))
                self._ask_after = time.monotonic() + 1.0
            return next((future for future in futures if future.done()), None)

        future = self.ros.until(answered, "an answer of get_state", timeout)
        self.node.destroy_client(client)
        return future.result().current_state.label

    def call(self, kind, service, **fields):
        client = self.node.create_client(kind, f"/openpi/client_node/{service}")
        self.ros.until(client.service_is_ready, f"service {service}")
        future = client.call_async(kind.Request(**fields))
        self.ros.until(future.done, f"an answer of {service}")
        self.node.destroy_client(client)
        return future.result()


def latched():
    from rclpy.qos import DurabilityPolicy, QoSProfile

    return QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def robot(ros):
    return Robot(ros)


class Server(ScriptedServer):
    """Begins with other metadata when it is started again."""

    def __init__(self):
        super().__init__(self.stay)

    def start(self, **metadata):
        self.metadata = METADATA | metadata
        super().start()

    @staticmethod
    def stay(observation):
        """Fifty steps where the robot is."""
        return {"actions": stay(observation), "server_timing": {"infer_ms": 0.05}}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def make_node(ros, server, parameters):
    """Make a node that talks to the server, configured and active unless told otherwise."""
    from rclpy.parameter import Parameter

    from openpi_flash_client_node.ros.node import ClientNode

    def make(*, bring_up=True, **changes):
        changes = {name.replace("__", "."): value for name, value in changes.items()}
        given = parameters | {"port": server.port} | changes
        node = ClientNode(
            context=ros.context,
            use_global_arguments=False,
            parameter_overrides=[
                Parameter(name, value=value) for name, value in given.items() if value is not None
            ],
        )
        ros.add(node)
        nodes.append(node)
        if bring_up:
            assert node.bring_up()
        return node

    nodes = []
    yield make
    for node in nodes:
        node.stop()

"""The status topic's quality of service, as a supervisor and as `ros2 topic echo` see it."""

import os
import signal
import subprocess
import sys

import pytest
import yaml
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from conftest import latched
from openpi_flash_msgs.msg import PolicyStatus

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

DEMANDING = QoSProfile(
    depth=1,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    deadline=Duration(seconds=1),
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=2),
)


class Supervisor:
    """Subscribes to the status with a deadline and a lease, and hears when they are missed."""

    def __init__(self, robot):
        self.missed, self.lives, self.heard = [], [], []
        robot.node.create_subscription(
            PolicyStatus,
            "/openpi/status",
            self.heard.append,
            DEMANDING,
            event_callbacks=SubscriptionEventCallbacks(
                deadline=self.missed.append, liveliness=self.lives.append
            ),
        )


@pytest.mark.parametrize(
    "profile",
    [
        10,
        latched(),
        QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT),
        QoSProfile(depth=1, deadline=Duration(seconds=1)),
        DEMANDING,
    ],
    ids=["default", "latched", "best effort", "deadline", "deadline and lease"],
)
def test_every_usual_subscriber_hears_the_status(ros, robot, make_node, profile):
    make_node()
    heard = []
    robot.node.create_subscription(PolicyStatus, "/openpi/status", heard.append, profile)
    ros.until(lambda: len(heard) >= 2, "statuses", timeout=10)


def test_a_node_that_works_misses_no_deadline(ros, robot, make_node):
    make_node()
    supervisor = Supervisor(robot)
    robot.until_state(PolicyStatus.RUNNING)
    ros.until(lambda: supervisor.heard, "a status")
    ros.turn(2.5)
    assert supervisor.missed == []


@pytest.fixture
def process(ros_domain, server, parameters, tmp_path):
    """A node in a process of its own."""
    path = tmp_path / "robot.yaml"
    given = parameters | {"port": server.port}
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": given}}))
    process = subprocess.Popen(
        [sys.executable, "-m", "openpi_flash_client_node", "--ros-args", "--params-file", path],
        env=os.environ | {"ROS_DOMAIN_ID": str(ros_domain)},
    )
    yield process
    process.kill()
    process.wait()


def test_a_supervisor_hears_that_the_node_hangs(ros, robot, process):
    supervisor = Supervisor(robot)
    robot.until_state(PolicyStatus.RUNNING, timeout=60)
    ros.until(lambda: supervisor.lives, "the node's liveliness")
    assert supervisor.lives[-1].alive_count == 1
    supervisor.missed.clear()
    process.send_signal(signal.SIGSTOP)
    ros.until(lambda: supervisor.missed, "a missed deadline", timeout=10)
    ros.until(lambda: supervisor.lives[-1].alive_count == 0, "a lost lease", timeout=10)

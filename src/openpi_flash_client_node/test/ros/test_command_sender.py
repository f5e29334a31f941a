"""sender/: controllers that know one command only, over real topics; the node may be gone."""

import os
import signal
import time

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray

from openpi_flash_client_node.sender.client import CommandSender
from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.settings.controllers import Controller, ControllerKind

MS = 1_000_000


@pytest.fixture
def domain(ros_domain, monkeypatch):
    """The processes that a test starts speak in its domain."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain))


def moving_window(now):
    """Half a unit a second for 0.2 s, then a ramp of 0.2 s to rest."""
    return Motion(
        np.array([now, now + 200 * MS, now + 400 * MS]),
        np.array([[0.0], [0.1], [0.15]]),
        np.array([[0.5], [0.5], [0.0]]),
    )


def heard_on(ros, robot, kind, topic):
    heard = []
    robot.node.create_subscription(
        kind, topic, lambda message: heard.append((time.monotonic(), message)), 100
    )
    return heard


def test_a_window_is_played_to_rest_when_nobody_is_left_to_send_another(ros, robot, domain):
    velocity = Controller("v", "/v/commands", ("a",), (0,), ControllerKind.VELOCITY)
    heard = heard_on(ros, robot, Float64MultiArray, "/v/commands")
    sender = CommandSender([velocity], name="s", namespace="/openpi", is_sim_time=False)
    try:
        ros.until(lambda: sender.problem() == "", "the sender")
        sender.send("v", moving_window(robot.node.get_clock().now().nanoseconds))
        sender._close_pipe()  # as if the node were killed
        ros.until(lambda: sender._process.poll() is not None, "the end of the sender")
        speeds = [message.data[0] for _, message in heard]
        assert max(speeds) == pytest.approx(0.5)
        assert speeds[-1] == 0.0
        # how soon is for test_playing.py, whose time does not depend on the machine
        assert sender._process.returncode == 0
    finally:
        sender.close()


def test_words_that_make_no_sense_end_a_motion_at_rest(ros, robot, domain):
    velocity = Controller("v", "/v/commands", ("a",), (0,), ControllerKind.VELOCITY)
    heard = heard_on(ros, robot, Float64MultiArray, "/v/commands")
    sender = CommandSender([velocity], name="s", namespace="/openpi", is_sim_time=False)
    try:
        ros.until(lambda: sender.problem() == "", "the sender")
        sender.send("v", moving_window(robot.node.get_clock().now().nanoseconds))
        os.write(sender._process.stdin.fileno(), b"\xff" * 64)
        ros.until(lambda: sender._process.poll() is not None, "the end of the sender")
        assert sender._process.returncode == 0
        assert max(message.data[0] for _, message in heard) == pytest.approx(0.5)
        assert heard[-1][1].data[0] == 0.0
    finally:
        sender.close()


def test_the_sender_hears_no_ctrl_c_and_is_started_anew_when_it_is_gone(ros, robot, domain):
    position = Controller("p", "/p/commands", ("a",), (0,), ControllerKind.POSITION)
    sender = CommandSender([position], name="s", namespace="/openpi", is_sim_time=False)
    try:
        ros.until(lambda: robot.node.count_publishers("/p/commands"), "the sender")
        ros.turn(0.3)
        assert "has not found the controller yet" in sender.problem()
        controller = robot.node.create_subscription(Float64MultiArray, "/p/commands", print, 1)
        ros.until(lambda: sender.problem() == "", "the sender finding its controller")
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(sender._process.pid, ignored)
        ros.turn(0.2)
        assert sender.problem() == ""
        sender._process.kill()
        sender._process.wait()
        sender.send("p", moving_window(0))  # lost, and no error
        assert "has ended with code -9; it is started again" in sender.problem()
        ros.until(lambda: sender.problem() == "", "the new sender finding its controller")
        robot.node.destroy_subscription(controller)
        ros.until(sender.problem, "the sender missing its controller")
    finally:
        sender.close()


VELOCITIES = {
    "action_kind": ["velocity", "velocity", "gripper"],
    "controllers": ["arm", "hand"],
    "controller.arm.kind": "velocity",
}


def test_a_policy_of_velocities_drives_a_velocity_controller(ros, robot, server, make_node, domain):
    heard = heard_on(ros, robot, Float64MultiArray, "/arm/commands")

    def go(observation):
        still = np.tile(observation["observation/state"], (50, 1))
        still[:, :2] = [0.2, -0.1]
        return {"actions": still}

    server.answer = go
    make_node(
        **{name.replace(".", "__"): value for name, value in VELOCITIES.items()},
        max_tracking_error=[10.0, 10.0, 0.0],
    )
    robot.until_state(PolicyStatus.RUNNING)
    ros.until(
        lambda: heard and heard[-1][1].data.tolist() == pytest.approx([0.2, -0.1], abs=1e-3),
        lambda: f"the policy's velocities; heard {heard[-3:]}",
    )
    speeds = np.array([message.data for _, message in heard])
    assert np.abs(speeds).max() < 0.2 * 1.02
    # max_acceleration is 5: a controller that misses the beginning would get 0.2 at once
    assert np.abs(speeds[0]).max() <= 0.1
    from std_srvs.srv import Trigger

    robot.call(Trigger, "hold")
    ros.until(lambda: not any(heard[-1][1].data), "rest")


def test_a_base_is_driven_by_its_twist_and_stands_when_held(ros, robot, server, make_node, domain):
    heard = heard_on(ros, robot, TwistStamped, "/base_cmd")
    server.stop()
    names = ["x", "rotation"]
    server.start(
        action_dim=2,
        action_names=names,
        actions=[
            {"name": "x", "interface": "base_twist", "unit": "m/s", "reference": "absolute"},
            {
                "name": "rotation",
                "interface": "base_twist",
                "unit": "rad/s",
                "reference": "absolute",
            },
        ],
    )
    server.answer = lambda observation: {"actions": np.tile([0.3, 0.5], (50, 1))}
    make_node(
        joints=["shoulder", "elbow", "gripper"],
        axes=names,
        action_kind="base_twist",
        controllers=["base"],
        controller__base__kind="base",
        controller__base__topic="/base_cmd",
        controller__arm__joints=None,
        controller__hand__joints=None,
        max_velocity=[0.5, 1.0],
        position_lower=[float("-inf")],
        position_upper=[float("inf")],
    )
    robot.until_state(PolicyStatus.RUNNING)

    def speed():
        twist = heard[-1][1].twist
        return (twist.linear.x, twist.angular.z)

    ros.until(lambda: heard and speed() == pytest.approx((0.3, 0.5), abs=1e-3), "full speed")
    server.stop()  # and the link is lost
    ros.until(lambda: speed() == (0.0, 0.0), "rest")
    assert isinstance(heard[-1][1], TwistStamped)

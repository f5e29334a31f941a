"""What drivers say of their robots, over real topics with the drivers' own message definitions."""

import sys

import numpy as np
import pytest
import rclpy
from rclpy.qos import QoSProfile
from std_msgs.msg import Bool

from openpi_flash_client_node.ros.stop_subscriptions import StopSubscriptions
from openpi_flash_client_node.ros.transform_listener import TransformListener
from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_robot.settings.node_settings import StopSettings
from openpi_flash_robot.settings.stop_states import StopState, StopStateKind

extra_ros_packages = pytest.importorskip(
    "extra_ros_packages", reason="needs the repository's own tests"
)
pytestmark = [
    pytest.mark.timeout(600),  # the first test builds the packages
    pytest.mark.skipif(
        not rclpy.__file__.startswith(sys.prefix),
        reason="the packages are built against the wheels of ROS 2",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def packages():
    extra_ros_packages.use_extra_packages(extra_ros_packages.DRIVER_NAMES)


def latched():
    from conftest import latched

    return latched()


def reset(robot):
    from std_srvs.srv import Trigger

    return robot.call(Trigger, "reset")


STOPS = {
    "stop_states": ["safety", "program"],
    "stop_state__program__kind": "robot_program_running",
}
SAFETY, PROGRAM = (
    f"/io_and_status_controller/{name}" for name in ("safety_mode", "robot_program_running")
)


def test_a_protective_stop_of_a_ur_stops_it_until_a_person_has_looked(ros, robot, make_node):
    from ur_dashboard_msgs.msg import SafetyMode

    make_node(**STOPS)
    robot.until_state(PolicyStatus.HOLDING, f"{SAFETY} was not heard yet")
    safety = robot.node.create_publisher(SafetyMode, SAFETY, latched())
    program = robot.node.create_publisher(Bool, PROGRAM, latched())
    safety.publish(SafetyMode(mode=SafetyMode.NORMAL))
    robot.until_state(PolicyStatus.HOLDING, f"{PROGRAM} was not heard yet")
    program.publish(Bool(data=True))
    robot.until_state(PolicyStatus.RUNNING)
    safety.publish(SafetyMode(mode=SafetyMode.PROTECTIVE_STOP))
    robot.until_state(PolicyStatus.HOLDING, "is PROTECTIVE_STOP (3)")
    assert not reset(robot).success
    safety.publish(SafetyMode(mode=SafetyMode.NORMAL))
    robot.until_state(PolicyStatus.HOLDING, "call ~/reset")
    assert reset(robot).success
    robot.until_state(PolicyStatus.RUNNING)
    program.publish(Bool(data=False))
    robot.until_state(PolicyStatus.HOLDING, f"{PROGRAM} is false")


def test_a_driver_that_is_gone_counts_as_a_stop(robot, make_node):
    from ur_dashboard_msgs.msg import RobotMode

    # as drivers of earlier versions: nothing is kept for who joins late
    mode = robot.node.create_publisher(RobotMode, "/left/robot_mode", QoSProfile(depth=1))
    make_node(
        stop_states=["mode"],
        stop_state__mode__kind="ur_robot_mode",
        stop_state__mode__topic="/left/robot_mode",
    )
    robot.ros.until(lambda: mode.get_subscription_count() == 1, "the subscription")
    mode.publish(RobotMode(mode=RobotMode.RUNNING))
    robot.until_state(PolicyStatus.RUNNING)
    robot.node.destroy_publisher(mode)
    robot.until_state(PolicyStatus.HOLDING, "has no publisher any more, and counts as a stop")


def test_a_franka_whose_user_stop_is_pressed_or_that_is_silent_stands(robot, make_node):
    from franka_msgs.msg import FrankaRobotState

    state = FrankaRobotState(robot_mode=FrankaRobotState.ROBOT_MODE_MOVE)
    topic = "/franka_robot_state_broadcaster/robot_state"
    publisher = robot.node.create_publisher(FrankaRobotState, topic, 10)
    speaks = robot.node.create_timer(0.05, lambda: publisher.publish(state))
    make_node(
        stop_states=["franka"],
        stop_state__franka__kind="franka_robot_state",
        stop_state__franka__timeout=3.0,  # longer than a busy machine keeps the test waiting
    )
    robot.until_state(PolicyStatus.RUNNING)
    state.robot_mode = FrankaRobotState.ROBOT_MODE_USER_STOPPED
    robot.until_state(PolicyStatus.HOLDING, f"{topic} is USER_STOPPED (5)")
    state.robot_mode = FrankaRobotState.ROBOT_MODE_IDLE
    robot.until_state(PolicyStatus.HOLDING, "call ~/reset")
    assert reset(robot).success
    robot.until_state(PolicyStatus.RUNNING)
    robot.node.destroy_timer(speaks)
    robot.until_state(PolicyStatus.HOLDING, f"{topic} is silent for")


def test_a_missing_package_is_named(ros, monkeypatch):
    node = ros.node("stops")
    state = StopState("safety", StopStateKind.FRANKA_ROBOT_STATE, "/franka/state", 1)
    for name in ("franka_msgs", "franka_msgs.msg", "tf2_msgs", "tf2_msgs.msg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as error:
        StopSubscriptions(node, StopSettings(states=(state,)), switched=print, said=print)
    assert "stop_state.safety of kind franka_robot_state needs franka_msgs" in str(error.value)
    assert "apt install ros-$ROS_DISTRO-franka-msgs" in str(error.value)
    with pytest.raises(ImportError, match="poses by tf need tf2_msgs"):
        TransformListener(node)


def activity_of(arm="active", hand="active", hardware="active"):
    from controller_manager_msgs.msg import ControllerManagerActivity, NamedLifecycleState
    from lifecycle_msgs.msg import State

    ids = {"unconfigured": 1, "inactive": 2, "active": 3}

    def named(name, label):
        return NamedLifecycleState(name=name, state=State(id=ids[label], label=label))

    return ControllerManagerActivity(
        controllers=[named("arm", arm), named("hand", hand), named("idle", "inactive")],
        hardware_components=[named("cell", hardware)],
    )


def test_an_inactive_controller_or_its_hardware_holds_the_robot(robot, make_node):
    message = activity_of()
    activity = robot.node.create_publisher(type(message), "/controller_manager/activity", latched())
    activity.publish(message)
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    activity.publish(activity_of(arm="inactive"))
    robot.until_state(PolicyStatus.HOLDING, "controller arm is inactive; see `ros2 control")
    assert robot.status.resumes_by_itself
    activity.publish(activity_of())
    robot.until_state(PolicyStatus.RUNNING)
    activity.publish(activity_of(hardware="unconfigured"))
    robot.until_state(PolicyStatus.HOLDING, "the hardware cell is unconfigured")


class Transforms:
    """A robot's state publisher: a base that moves in the map, and a tool on it."""

    def __init__(self, robot):
        from tf2_msgs.msg import TFMessage

        self._kind, self._node, self.is_silent = TFMessage, robot.node, False
        depth = QoSProfile(depth=100)
        self._moving = robot.node.create_publisher(TFMessage, "/tf", depth)
        self._static = robot.node.create_publisher(TFMessage, "/tf_static", latched())
        self._static.publish(self._message("base", "tool", 0.5))
        robot.node.create_timer(0.02, self._speak)

    def _message(self, parent, child, height):
        from geometry_msgs.msg import TransformStamped

        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = parent
        transform.header.stamp = self._node.get_clock().now().to_msg()
        transform.transform.translation.z = height
        transform.transform.rotation.w = 1.0
        return self._kind(transforms=[transform])

    def _speak(self):
        if not self.is_silent:
            self._moving.publish(self._message("map", "base", 0.25))


def test_a_pose_by_tf_goes_into_the_request_and_must_not_grow_old(robot, server, make_node):
    transforms = Transforms(robot)
    server.answer = lambda observation: np.tile(observation["joints"], (50, 1))
    make_node(
        states=["joints", "tool"],
        state__joints__key="joints",
        state__tool__kind="tf",
        state__tool__frame="map",
        state__tool__child_frame="tool",
        state__tool__rotation="quat_wxyz",
        state__tool__key="observation/tool",
    )
    robot.until_state(PolicyStatus.RUNNING)
    sent = server.requests[-1]["observation/tool"]
    np.testing.assert_allclose(sent, [0, 0, 0.75, 1, 0, 0, 0], atol=1e-6)
    transforms.is_silent = True
    robot.until_state(PolicyStatus.HOLDING, "state tool (/tf)")


def test_a_frame_that_nobody_publishes_is_named(robot, make_node):
    Transforms(robot)
    make_node(
        states=["joints", "tool"],
        state__joints__key="joints",
        state__tool__kind="tf",
        state__tool__frame="map",
        state__tool__child_frame="tcp",
        state__tool__key="observation/tool",
    )
    robot.until_state(
        PolicyStatus.HOLDING,
        "state tool (/tf) has no pose of tcp in map by /tf and /tf_static: no transform names "
        "frame tcp",
    )

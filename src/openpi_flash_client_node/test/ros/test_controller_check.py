"""controller_check.py over Fast DDS: a controller's parameters are read before it is commanded."""

import pytest
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from trajectory_msgs.msg import JointTrajectory

from openpi_flash_client_node.ros import controller_check
from openpi_flash_client_node.ros.controller_check import APPEAR_S, NAME_S, ControllerCheck
from openpi_flash_msgs.msg import PolicyStatus

PARAMETERS = {
    "joints": ["shoulder", "elbow"],
    "allow_partial_joints_goal": False,
    "interpolate_from_desired_state": True,
    "interpolation_method": "splines",
    "cmd_timeout": 0.0,
}
WRONG = "controller arm (/arm) has interpolate_from_desired_state false"


def controller(ros, name="arm", *, services=True, **changes):
    """A node that listens as a controller does, and has its parameters."""
    node = ros.add(
        Node(
            name,
            context=ros.context,
            use_global_arguments=False,
            start_parameter_services=services,
        )
    )
    for parameter, value in (PARAMETERS | changes).items():
        if value is not None:
            node.declare_parameter(parameter, value)
    heard = []
    node.create_subscription(JointTrajectory, f"/{name}/joint_trajectory", heard.append, 10)
    return node, heard


def moves(robot, heard):
    robot.until_state(PolicyStatus.RUNNING)
    count = len(heard)
    robot.ros.until(lambda: len(heard) > count, "a trajectory")


def test_a_controller_with_good_parameters_is_commanded(ros, robot, make_node, capfd):
    _, heard = controller(ros)
    make_node()
    moves(robot, heard)
    errors = capfd.readouterr().err
    assert "controller arm" not in errors
    assert "controller hand: /robot listens to /hand/joint_trajectory, and not /hand" in errors
    assert errors.count("its parameters cannot be checked") == 1


def test_humbles_parameter_counts_where_the_other_one_is_not_there(ros, robot, make_node):
    node, heard = controller(ros, interpolate_from_desired_state=None, open_loop_control=False)
    make_node()
    robot.until_state(PolicyStatus.HOLDING, "controller arm (/arm) has open_loop_control false")
    assert heard == []
    node.set_parameters([Parameter("open_loop_control", value=True)])
    moves(robot, heard)


def test_what_makes_jerks_keeps_the_arm_still_until_it_is_repaired(ros, robot, server, make_node):
    node, heard = controller(ros, interpolate_from_desired_state=False)
    make_node()
    status = robot.until_state(PolicyStatus.HOLDING, WRONG)
    assert (status.cause, status.resumes_by_itself) == (PolicyStatus.CAUSE_COMMANDER, True)
    assert "`ros2 param set /arm interpolate_from_desired_state true`" in status.message
    ros.turn(1.5)
    assert robot.status.state == PolicyStatus.HOLDING
    assert heard == []
    assert server.requests == []
    node.set_parameters([Parameter("interpolate_from_desired_state", value=True)])
    moves(robot, heard)


def test_joints_that_the_controller_refuses_are_named(ros, robot, make_node):
    controller(ros, joints=["shoulder", "elbow", "wrist"])
    make_node()
    robot.until_state(PolicyStatus.HOLDING, "has allow_partial_joints_goal false and joints wrist")


def test_a_dry_run_is_warned_and_goes_on(ros, robot, make_node, capfd):
    controller(ros, interpolate_from_desired_state=False, cmd_timeout=0.5)
    make_node(dry_run=True)
    robot.until_state(PolicyStatus.RUNNING)
    said = ""

    def warned():
        nonlocal said
        said += capfd.readouterr().err
        return WRONG in said and "controller arm (/arm) has cmd_timeout 0.5 s" in said

    ros.until(warned, "both warnings")
    assert robot.status.state == PolicyStatus.RUNNING


def test_a_controller_without_parameter_services_is_warned_of_and_commanded(
    ros, robot, make_node, capfd
):
    _, heard = controller(ros, services=False)
    make_node()
    robot.until_state(
        PolicyStatus.HOLDING, "reading the parameters of controller arm from /arm/get_parameters"
    )
    moves(robot, heard)
    assert "controller arm: /arm/get_parameters does not answer" in capfd.readouterr().err


UNKNOWN = {"_NODE_NAMESPACE_UNKNOWN_/_NODE_NAME_UNKNOWN_": b"1"}
SIMULATOR = {"/simulator": b"2"}


@pytest.fixture
def judged(robot, monkeypatch, settings):
    """What a check says of listeners; a third argument lets so many seconds pass before."""
    now = [100.0]
    check = ControllerCheck(robot.node, settings.controllers[:1], clock=lambda: now[0])

    def look(listeners, seconds=0.0, *, is_robot_there=True):
        now[0] += seconds
        monkeypatch.setattr(controller_check, "listeners_of", lambda *_: listeners)
        problem = check.look(is_robot_there=is_robot_there)
        return problem and problem.message

    yield look
    check.destroy()


LOOKING = "looking for controller arm at /arm/joint_trajectory"


def test_another_listener_is_taken_for_the_controller_only_if_that_does_not_appear(judged):
    assert judged(SIMULATOR) == LOOKING
    assert judged(SIMULATOR, APPEAR_S - 0.1) == LOOKING
    assert judged(SIMULATOR, 0.2) is None
    assert judged(SIMULATOR | UNKNOWN) is None
    assert judged({}) == LOOKING
    assert judged(SIMULATOR) == LOOKING


def test_a_recorder_is_not_taken_for_the_controller_of_a_robot_that_is_not_up_yet(judged):
    for _ in range(3):
        assert judged({"/recorder": b"3"}, 60.0, is_robot_there=False) == LOOKING
    assert judged({"/recorder": b"3"}) == LOOKING
    reading = judged({"/recorder": b"3", "/arm": b"4"}, 0.5)
    assert reading.startswith("reading the parameters of controller arm")


def test_a_listener_that_never_gets_a_name_is_no_node_of_ros(judged):
    assert judged(UNKNOWN) == LOOKING
    assert judged(UNKNOWN, NAME_S - 0.1) == LOOKING
    assert judged(UNKNOWN, 0.2) is None


def test_a_controller_that_comes_back_changed_is_read_again(ros, robot, make_node):
    node, heard = controller(ros)
    make_node()
    moves(robot, heard)
    ros.remove(node)
    _, heard = controller(ros, interpolate_from_desired_state=False)
    robot.until_state(PolicyStatus.HOLDING, WRONG)


def test_parameters_are_read_again_at_each_activation(ros, robot, make_node):
    node, heard = controller(ros)
    client = make_node()
    moves(robot, heard)
    client.trigger_deactivate()
    robot.until_state(PolicyStatus.PAUSED, "not active")
    node.set_parameters([Parameter("interpolate_from_desired_state", value=False)])
    client.trigger_activate()
    robot.until_state(PolicyStatus.HOLDING, WRONG)


def test_the_type_is_what_the_controller_manager_says(ros, robot, make_node, capfd):
    manager = ros.node("controller_manager")
    manager.declare_parameter("arm.type", "forward_command_controller/ForwardCommandController")
    _, heard = controller(ros)
    make_node()
    moves(robot, heard)
    assert "(/arm) is a forward_command_controller/Forw" in capfd.readouterr().err


@pytest.mark.parametrize("kind", [Node, LifecycleNode])
def test_a_node_with_other_parameters_of_these_names_is_no_trajectory_controller(
    ros, robot, make_node, kind
):
    _, heard = controller(ros, joints="none", interpolation_method=["a"], cmd_timeout="never")
    make_node()
    moves(robot, heard)

"""controller_activity.py: a controller or its hardware that is not active keeps the robot still."""

from openpi_flash_robot.bridge.controller_activity import Activity, LifecycleState, inactive

ACTIVE, INACTIVE = LifecycleState(3, "active"), LifecycleState(2, "inactive")
UNCONFIGURED = LifecycleState(1, "unconfigured")


def activity(arm=ACTIVE, hardware=ACTIVE, sensor=ACTIVE):
    return Activity(
        {"arm": arm, "joint_state_broadcaster": ACTIVE, "other": INACTIVE},
        {"robot": hardware, "sensor": sensor},
    )


def test_active_controllers_on_active_hardware_may_be_commanded():
    assert inactive(activity(), ("arm",), ()) is None


def test_a_commanded_controller_that_is_not_active_is_named():
    assert inactive(activity(arm=INACTIVE), ("arm",), ()).message == (
        "controller arm is inactive; see `ros2 control list_controllers`"
    )


def test_a_controller_of_another_manager_is_not_its_business():
    assert inactive(activity(arm=INACTIVE), ("servo_node",), ()) is None


def test_hardware_that_is_not_active_is_named_before_its_controllers():
    problem = inactive(activity(arm=INACTIVE, hardware=UNCONFIGURED), ("arm",), ())
    assert problem.message.startswith("the hardware robot is unconfigured: what is commanded does")


def test_only_the_hardware_that_was_named_has_to_be_active():
    assert inactive(activity(sensor=INACTIVE), ("arm",), ("robot",)) is None
    assert inactive(activity(sensor=INACTIVE), ("arm",), ()) is not None


def test_hardware_that_does_not_exist_keeps_the_robot_still():
    assert "no hardware arm_1 (hardware_components), only robot, sensor" in (
        inactive(activity(), ("arm",), ("arm_1",)).message
    )

"""state_messages.py: the velocity of a base, from either message."""

import sys
import types

import pytest
from geometry_msgs.msg import Twist, TwistStamped

from openpi_flash_client_node.ros.state_messages import message_type, numbers_of
from openpi_flash_robot.settings.state_inputs import Rotation, StateInput, StateKind


def state(kind):
    return StateInput("base", ("twist",), kind, (), "/odom", Rotation.ROTVEC, 3, (1.0,), (0.0,))


def moving():
    twist = Twist()
    twist.linear.x, twist.linear.y, twist.angular.z = 0.3, -0.1, 0.5
    twist.linear.z = twist.angular.x = 9.0
    return twist


def test_a_base_twist_is_x_y_and_the_rotation():
    base = state(StateKind.BASE_TWIST)
    assert message_type(base) is TwistStamped
    assert numbers_of(base, TwistStamped(twist=moving())) == (0.3, -0.1, 0.5)


def test_odometry_is_read_from_its_twist():
    odometry = types.SimpleNamespace(twist=types.SimpleNamespace(twist=moving()))
    assert numbers_of(state(StateKind.ODOMETRY), odometry) == (0.3, -0.1, 0.5)


def test_without_nav_msgs_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nav_msgs", None)
    with pytest.raises(
        ImportError, match="state base of kind odometry needs nav_msgs.*apt install"
    ):
        message_type(state(StateKind.ODOMETRY))

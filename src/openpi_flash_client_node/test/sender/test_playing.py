"""playing.py, commands.py: what a controller that knows one command only is told."""

import numpy as np
import pytest

from openpi_flash_client_node.sender.commands import command_message, message_type
from openpi_flash_client_node.sender.playing import SAID_AT_REST_NS, Playing
from openpi_flash_robot.play.motion import Motion, MotionState
from openpi_flash_robot.settings.controllers import Controller, ControllerKind

MS = 1_000_000
WINDOW = Motion(
    np.array([0, 200 * MS, 400 * MS]),
    np.array([[0.0], [0.1], [0.15]]),
    np.array([[0.5], [0.5], [0.0]]),
)


def controller(kind, joints="a", **more):
    return Controller("c", "/c", tuple(joints), tuple(range(len(joints))), kind, **more)


def test_a_window_is_played_to_its_end_and_then_rest_is_said_for_a_while():
    playing = Playing()
    playing.take(0, WINDOW)
    assert playing.due(100 * MS)[0].velocities == pytest.approx(0.5)
    for now in (400 * MS, 400 * MS + SAID_AT_REST_NS):
        state = playing.due(now)[0]
        assert (state.positions, state.velocities) == (0.15, 0.0)
        assert not playing.has_ended(now)
    assert playing.has_ended(400 * MS + SAID_AT_REST_NS + 1)


def test_a_newer_window_takes_over_and_each_controller_has_its_own():
    playing = Playing()
    playing.take(0, WINDOW)
    playing.take(1, WINDOW)
    playing.take(0, Motion(WINDOW.times_ns, -WINDOW.positions, -WINDOW.velocities))
    due = playing.due(100 * MS)
    assert due[0].velocities == -due[1].velocities


def test_positions_and_velocities_are_forwarded_in_the_order_of_the_controller():
    state = MotionState(np.array([0.1, 0.2]), np.array([1.0, 2.0]))
    positions = command_message(controller(ControllerKind.POSITION, "ab"), state, 5)
    velocities = command_message(controller(ControllerKind.VELOCITY, "ab"), state, 5)
    assert (list(positions.data), list(velocities.data)) == ([0.1, 0.2], [1.0, 2.0])


def test_a_twist_names_its_frame_and_moment():
    state = MotionState(np.zeros(6), np.arange(6.0))
    twist = command_message(
        controller(ControllerKind.TWIST, "abcdef", frame="tool0"), state, 2_000_000_005
    )
    assert (twist.header.frame_id, twist.header.stamp.sec, twist.header.stamp.nanosec) == (
        "tool0",
        2,
        5,
    )
    linear, angular = twist.twist.linear, twist.twist.angular
    assert [linear.x, linear.y, linear.z, angular.x, angular.y, angular.z] == list(range(6))


@pytest.mark.parametrize("is_stamped", [True, False])
@pytest.mark.parametrize(("axes", "expected"), [("xr", (1, 0, 2)), ("xyr", (1, 2, 3))])
def test_a_base_is_told_x_y_and_rotation(is_stamped, axes, expected):
    base = controller(ControllerKind.BASE, axes, is_stamped=is_stamped)
    state = MotionState(np.zeros(len(axes)), np.arange(1.0, len(axes) + 1))
    message = command_message(base, state, 0)
    assert isinstance(message, message_type(base))
    twist = message.twist if is_stamped else message
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == expected

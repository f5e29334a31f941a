"""gripper_goals.py: which positions become goals."""

import pytest

from openpi_flash_robot.play.gripper_goals import PAUSE_NS, GripperGoals


@pytest.mark.parametrize(
    ("position", "goal"), [(-2.6e-11, 0.0), (0.04 + 7e-12, 0.04), (0.0123456789, 0.012346)]
)
def test_a_rounding_error_does_not_take_a_goal_out_of_the_grippers_range(position, goal):
    found = GripperGoals(0.04).next(0, position)
    assert found == goal
    assert str(found) == str(goal), "no -0.0"


def test_a_change_waits_for_the_pause_and_is_not_forgotten():
    goals = GripperGoals(0.8)
    assert goals.next(0, 0.0) == 0.0
    assert goals.next(PAUSE_NS - 1, 0.8) is None
    assert goals.next(PAUSE_NS, 0.8) == 0.8
    assert goals.next(9 * PAUSE_NS, 0.8 - 0.007) is None
    assert goals.next(9 * PAUSE_NS, 0.8 - 0.009) == pytest.approx(0.791)


def test_a_goal_that_was_not_taken_is_due_again():
    goals = GripperGoals(0.8)
    goals.next(0, 0.5)
    goals.forget()
    assert goals.next(PAUSE_NS, 0.5) == 0.5

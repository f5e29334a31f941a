"""trajectory.py: a window as a joint trajectory controller wants it."""

import numpy as np
import pytest

from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.play.trajectory import SOONEST_NS, trajectory_of

MS = 1_000_000
WINDOW = Motion(
    times_ns=np.array([500, 515, 535, 800]) * MS,
    positions=np.array([[0.0, 10, 20], [1, 11, 21], [2, 12, 22], [3, 13, 23]]),
    velocities=np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3], [0, 0, 0]]),
)


def test_stamped_points_count_from_the_moment_at_which_the_window_was_cut():
    trajectory = trajectory_of(WINDOW, 500 * MS, [0], is_stamped=True)
    assert trajectory.start_ns == 500 * MS
    assert trajectory.times_ns.tolist() == [0, 15 * MS, 35 * MS, 300 * MS]
    assert trajectory.positions[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert trajectory.velocities[:, 0].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_points_that_count_from_reception_leave_a_controller_time_to_go_to_the_first_one():
    trajectory = trajectory_of(WINDOW, 500 * MS, [0], is_stamped=False)
    assert trajectory.start_ns is None
    assert trajectory.times_ns.tolist() == [35 * MS, 300 * MS]
    assert trajectory.times_ns[0] >= SOONEST_NS


@pytest.mark.parametrize("now", [790 * MS, 799 * MS])
def test_of_a_window_that_is_about_to_end_the_last_point_is_kept(now):
    trajectory = trajectory_of(WINDOW, now, [0], is_stamped=False)
    assert trajectory.positions.tolist() == [[3.0]]


def test_columns_choose_and_order_the_controllers_joints():
    trajectory = trajectory_of(WINDOW, 500 * MS, [2, 0], is_stamped=True)
    assert trajectory.positions[0].tolist() == [20.0, 0.0]
    assert trajectory.velocities[0].tolist() == [3.0, 1.0]

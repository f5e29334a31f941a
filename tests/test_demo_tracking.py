"""How the demo compares what the arm did with what it was sent."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from demo.run_data import JointTrack, Trajectory
from demo.tracking import at_times, commanded_positions, rms_difference, travel

JOINTS = ("a", "b")


def trajectory(received, *points, start=None):
    """Points are (seconds after start or reception, position of both joints)."""
    return Trajectory(
        received,
        start,
        np.array([time for time, _ in points]),
        np.array([[position, -position] for _, position in points], dtype=float),
        np.zeros((len(points), 0)),
    )


def still(times, position=0.0):
    times = np.asarray(times, dtype=float)
    return JointTrack(times, np.tile([position, -position], (len(times), 1)))


def test_before_the_first_trajectory_nothing_is_commanded():
    track = still([0.0, 0.9, 1.0, 2.0])
    commanded = commanded_positions([trajectory(1.0, (1.0, 1.0))], JOINTS, track)
    assert np.isnan(commanded[:2]).all()
    assert_allclose(commanded[2:, 0], [0.0, 1.0])
    assert_allclose(commanded[2:, 1], [0.0, -1.0])


def test_the_first_trajectory_starts_where_the_arm_is():
    track = still([1.0, 1.5, 2.0], position=0.5)
    commanded = commanded_positions([trajectory(1.0, (1.0, 1.5))], JOINTS, track)
    assert_allclose(commanded[:, 0], [0.5, 1.0, 1.5])


def test_a_later_trajectory_takes_over_when_it_is_received():
    track = still([0.0, 0.5, 1.0, 1.5, 2.0])
    sent = [trajectory(0.0, (1.0, 1.0), (2.0, 2.0)), trajectory(1.0, (1.0, 0.0))]
    assert_allclose(commanded_positions(sent, JOINTS, track)[:, 0], [0, 0.5, 1.0, 0.5, 0.0])


def test_a_stamped_trajectory_counts_from_its_stamp_however_late_it_comes():
    track = still([0.0, 0.5, 1.0, 1.5, 2.0])
    late = trajectory(0.4, (0.0, 0.0), (2.0, 2.0), start=0.0)
    assert_allclose(commanded_positions([late], JOINTS, track)[1:, 0], [0.5, 1.0, 1.5, 2.0])


def test_a_trajectory_that_comes_when_its_end_has_passed_changes_nothing():
    track = still([0.0, 0.5, 1.0, 1.5, 2.0])
    running, late = trajectory(0.0, (2.0, 2.0)), trajectory(1.2, (1.0, 9.0), start=0.1)
    alone = commanded_positions([running], JOINTS, track)
    assert_allclose(commanded_positions([running, late], JOINTS, track), alone)


def test_two_trajectories_between_two_samples_are_both_taken_in_order():
    track = still([0.0, 1.0, 2.0])
    sent = [trajectory(0.2, (0.4, 8.0)), trajectory(0.6, (0.4, 1.0))]
    assert_allclose(commanded_positions(sent, JOINTS, track)[1:, 0], [1.0, 1.0])


def test_an_arm_that_was_put_elsewhere_is_commanded_from_there_by_what_came_after():
    track = JointTrack(
        np.arange(6.0), np.array([[0, 0], [1, -1], [2, -2], [9, -9], [9, -9], [10, -10]], float)
    )
    sent = [trajectory(0.0, (2.0, 2.0)), trajectory(4.0, (1.0, 10.0))]
    commanded = commanded_positions(sent, JOINTS, track, placed=[2.5])
    assert_allclose(commanded[:3, 0], [0.0, 1.0, 2.0])
    assert np.isnan(commanded[3]).all()
    assert_allclose(commanded[4:, 0], [9.0, 10.0])
    assert_allclose(travel(track, placed=[2.5]), [3.0, 3.0])


def test_rms_leaves_out_what_is_not_known():
    a = np.array([[np.nan, np.nan], [3.0, 1.0], [4.0, 1.0]])
    assert_allclose(rms_difference(a, np.zeros_like(a)), [np.sqrt(12.5), 1.0])
    assert np.isnan(rms_difference(a[:1], np.zeros((1, 2)))).all()


def test_a_track_is_interpolated_and_unknown_outside():
    track = JointTrack(np.array([0.0, 1.0]), np.array([[0.0, 2.0], [1.0, 4.0]]))
    values = at_times(track, np.array([-0.1, 0.5, 1.1]))
    assert_allclose(values[1], [0.5, 3.0])
    assert np.isnan(values[[0, 2]]).all()


def test_travel_counts_both_ways():
    track = JointTrack(np.arange(4.0), np.array([[0, 0], [1, 0], [0, 0], [0.5, -1]], dtype=float))
    assert_allclose(travel(track), [2.5, 1.0])

"""pose_axes.py: the measured pose as numbers that go on from each other."""

import numpy as np
import pytest

from openpi_flash_robot.senses.pose_axes import LONGEST, PoseAxes
from openpi_flash_robot.senses.rotation import quaternion_of
from openpi_flash_robot.settings.node_settings import PoseInput

HERE = (0.4, 0.1, 0.3)
NAMES = ("px", "py", "pz", "rx", "ry", "rz")


@pytest.fixture
def axes():
    return PoseAxes(PoseInput("tool", NAMES, "base", "/current_pose"))


def turned(axes, angle):
    return axes.values(HERE, quaternion_of([angle, 0.0, 0.0]), "base")


def test_a_pose_has_six_numbers(axes):
    np.testing.assert_allclose(turned(axes, 0.5), [*HERE, 0.5, 0.0, 0.0])
    assert axes.problem == ""


def test_noise_around_half_a_turn_stays_on_one_side(axes):
    angles = np.pi + np.array([-0.01, 0.01, -0.02, 0.03, 0.0])
    np.testing.assert_allclose([turned(axes, angle)[3] for angle in angles], angles, atol=1e-9)


def test_near_a_whole_turn_the_shortest_vector_is_taken_again(axes):
    angles = np.arange(0.0, 2.0 * np.pi, 0.1)
    found = np.array([turned(axes, angle)[3] for angle in angles])
    assert np.abs(found).max() <= LONGEST
    np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * angles), atol=1e-9)


def test_a_slash_before_a_frame_is_no_part_of_its_name(axes):
    assert axes.values(HERE, (0, 0, 0, 1), "/base")


@pytest.mark.parametrize(
    ("quaternion", "frame", "problem"),
    [
        ((0, 0, 0, 1), "world", "is in frame 'world', expected 'base'"),
        ((0, 0, 0, 0), "base", "the pose on /current_pose has no rotation: its quaternion is 0"),
    ],
)
def test_what_is_no_pose_is_named(axes, quaternion, frame, problem):
    assert axes.values(HERE, quaternion, frame) == ()
    assert problem in axes.problem

"""directions.py: the limits of a vector's length as limits of its components."""

import numpy as np
import pytest

from openpi_flash_robot.play.directions import LEAST_SHARE, RESERVE, along, any_direction
from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.settings.node_settings import TURNING, Direction

FASTEST = np.array([0.2, 0.3, 0.4, 1.0, 1.0, 1.0, 2.0])
GROUPS = (Direction((0, 1, 2)), Direction((3, 4, 5), is_rotation=True))


@pytest.fixture
def limits():
    free = np.full(7, np.inf)
    return JointLimits(-free, free, FASTEST, np.full(7, 6.0))


def test_in_any_direction_the_least_limit_bounds_the_vector(limits):
    found = any_direction(limits, GROUPS)
    assert np.linalg.norm(found.velocity[:3]) == pytest.approx(RESERVE * 0.2)
    assert np.linalg.norm(found.acceleration[:3]) == pytest.approx(6.0)
    assert np.linalg.norm(found.acceleration[3:6]) == pytest.approx(6.0 - TURNING)
    assert (found.velocity[6], found.acceleration[6]) == (2.0, 6.0)


def test_a_way_along_one_axis_may_use_nearly_all_of_the_speed(limits):
    points = np.zeros((3, 7))
    points[:, 1] = [0.0, 0.1, 0.3]
    found = along(
        any_direction(limits, GROUPS),
        FASTEST,
        GROUPS,
        start_velocity=np.zeros(7),
        seconds=np.array([0.0, 0.1, 0.2]),
        positions=points,
    )
    assert np.linalg.norm(found.velocity[:3]) == pytest.approx(RESERVE * 0.2)
    assert found.velocity[1] > 0.98 * RESERVE * 0.2
    np.testing.assert_allclose(found.velocity[[0, 2]] / found.velocity[1], LEAST_SHARE)


def test_the_speed_at_the_start_counts_too(limits):
    points = np.zeros((2, 7))
    points[:, 1] = [0.0, 0.02]
    start = np.array([0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    found = along(
        any_direction(limits, GROUPS),
        FASTEST,
        GROUPS,
        start_velocity=start,
        seconds=np.array([0.0, 0.1]),
        positions=points,
    )
    assert found.velocity[0] == pytest.approx(found.velocity[1])


def test_without_groups_limits_stay_as_they_are(limits):
    assert (
        along(
            limits,
            FASTEST,
            (),
            start_velocity=np.zeros(7),
            seconds=np.array([0.0, 1.0]),
            positions=np.zeros((2, 7)),
        )
        is limits
    )

"""rotation.py: the same rotation, however it is written."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openpi_flash_robot.senses.rotation import rotation_numbers
from openpi_flash_robot.settings.state_inputs import Rotation

NUMBERS = st.floats(-1.0, 1.0)
QUATERNIONS = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)


def matrix_of_axis_and_angle(vector):
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = np.asarray(vector) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


@given(QUATERNIONS)
def test_every_form_is_the_same_rotation(xyzw):
    assume(np.linalg.norm(xyzw) > 0.05)
    vector = rotation_numbers(xyzw, Rotation.ROTVEC)
    matrix = matrix_of_axis_and_angle(vector)
    assert np.linalg.norm(vector) <= math.pi + 1e-9
    first_columns = rotation_numbers(xyzw, Rotation.ROT6D)
    np.testing.assert_allclose(first_columns, matrix[:, :2].T.ravel(), atol=1e-9)
    roll, pitch, yaw = rotation_numbers(xyzw, Rotation.RPY)
    about = [matrix_of_axis_and_angle(v) for v in ([roll, 0, 0], [0, pitch, 0], [0, 0, yaw])]
    np.testing.assert_allclose(about[2] @ about[1] @ about[0], matrix, atol=1e-5)
    assert np.linalg.norm(rotation_numbers(xyzw, Rotation.QUAT_XYZW)) == pytest.approx(1.0)


@given(QUATERNIONS)
def test_a_quaternion_and_its_negative_are_one_rotation(xyzw):
    assume(np.linalg.norm(xyzw) > 0.05 and abs(xyzw[3]) > 1e-3)
    negative = tuple(-value for value in xyzw)
    for rotation in Rotation:
        np.testing.assert_allclose(
            rotation_numbers(xyzw, rotation), rotation_numbers(negative, rotation), atol=1e-9
        )


@pytest.mark.parametrize("rotation", list(Rotation))
def test_a_quaternion_that_was_never_set_is_no_rotation(rotation):
    numbers = rotation_numbers((0.0, 0.0, 0.0, 0.0), rotation)
    assert len(numbers) == rotation.size
    assert np.isnan(numbers).all()

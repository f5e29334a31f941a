"""rotation.py: the same rotation, however it is written."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openpi_flash_robot.senses.rotation import (
    continued,
    quaternion_of,
    rotation_numbers,
    rotation_vectors,
)
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


@given(st.lists(QUATERNIONS, min_size=1, max_size=4))
def test_what_a_policy_writes_is_read_as_it_was_meant(quaternions):
    assume(all(np.linalg.norm(q) > 0.05 for q in quaternions))
    expected = [matrix_of_axis_and_angle(rotation_numbers(q, Rotation.ROTVEC)) for q in quaternions]
    for rotation in Rotation:
        numbers = np.array([rotation_numbers(q, rotation) for q in quaternions])
        found = [matrix_of_axis_and_angle(v) for v in rotation_vectors(numbers, rotation)]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_columns_that_are_not_quite_orthogonal_are_made_so():
    written = np.array([[2.0, 0.0, 0.0, 0.3, 1.5, 0.0]])
    np.testing.assert_allclose(rotation_vectors(written, Rotation.ROT6D), [[0, 0, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("rotation", "numbers"),
    [
        (Rotation.QUAT_XYZW, [0, 0, 0, 0]),
        (Rotation.QUAT_WXYZ, [0.01, 0, 0, 0]),
        (Rotation.ROT6D, [1, 0, 0, 1, 0, 0]),
        (Rotation.ROT6D, [0, 0, 0, 0, 1, 0]),
        (Rotation.RPY, [0, np.nan, 0]),
    ],
)
def test_numbers_that_are_no_rotation_are_not_made_one(rotation, numbers):
    found = rotation_vectors(np.array([numbers, numbers], dtype=np.float64), rotation)
    assert np.isnan(found).any(axis=1).all()


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS), st.floats(-9.0, 9.0))
def test_a_rotation_that_goes_on_turning_has_vectors_that_go_on(axis, start):
    assume(np.linalg.norm(axis) > 0.1)
    axis = np.array(axis) / np.linalg.norm(axis)
    turned = (start + np.arange(0.0, 9.0, 0.4))[:, np.newaxis] * axis
    shortest = [rotation_numbers(quaternion_of(v), Rotation.ROTVEC) for v in turned]
    np.testing.assert_allclose(continued(np.array(shortest), turned[0]), turned, atol=1e-5)

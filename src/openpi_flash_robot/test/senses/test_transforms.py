"""transforms.py: one frame in another, of the newest moment at which all between them is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_robot.senses.rotation import quaternion_of, rotation_numbers
from openpi_flash_robot.senses.transforms import FoundPose, TransformTree
from openpi_flash_robot.settings.state_inputs import Rotation

MS = 1_000_000
NOW = 10_000 * MS
NONE = (0.0, 0.0, 0.0)
NUMBERS = st.floats(-3.0, 3.0)
VECTORS = st.tuples(NUMBERS, NUMBERS, NUMBERS)


def matrix(position, vector):
    """Of a position and a rotation vector, [4, 4]."""
    columns = rotation_numbers(quaternion_of(vector), Rotation.ROT6D)
    found = np.eye(4)
    found[:3, 0], found[:3, 1] = columns[:3], columns[3:]
    found[:3, 2] = np.cross(columns[:3], columns[3:])
    found[:3, 3] = position
    return found


def tree_of(*edges, stamp_ns=NOW):
    """Each edge is parent, child, position, rotation vector, and whether it is static."""
    tree = TransformTree()
    for parent, child, position, vector, is_static in edges:
        assert tree.add(
            stamp_ns, parent, child, position, quaternion_of(vector), is_static=is_static
        )
    return tree


@given(st.lists(st.tuples(VECTORS, VECTORS), min_size=4, max_size=4))
def test_a_way_up_and_down_the_tree_is_the_product_of_its_transforms(parts):
    (a, b, c, d) = parts
    tree = tree_of(
        ("base", "link", *a, False),
        ("link", "tool", *b, True),
        ("base", "mast", *c, True),
        ("mast", "camera", *d, False),
    )
    found = tree.pose("camera", "tool")
    assert isinstance(found, FoundPose)
    expected = np.linalg.inv(matrix(*c) @ matrix(*d)) @ matrix(*a) @ matrix(*b)
    vector = rotation_numbers(found.transform.quaternion, Rotation.ROTVEC)
    np.testing.assert_allclose(matrix(found.transform.position, vector), expected, atol=1e-9)
    assert found.stamp_ns == NOW


def test_it_is_of_the_moment_up_to_which_all_are_known():
    tree = tree_of(("base", "link", NONE, NONE, False), ("link", "tool", NONE, NONE, False))
    turned = (0.0, 0.0, 1.0)
    tree.add(NOW + 100 * MS, "base", "link", (1, 0, 0), quaternion_of(turned), is_static=False)
    tree.add(NOW + 40 * MS, "link", "tool", (0, 0, 0.5), (0, 0, 0, 1), is_static=False)
    found = tree.pose("base", "tool")
    assert found.stamp_ns == NOW + 40 * MS
    np.testing.assert_allclose(found.transform.position, [0.4, 0.0, 0.5], atol=1e-12)
    vector = rotation_numbers(found.transform.quaternion, Rotation.ROTVEC)
    np.testing.assert_allclose(vector, [0, 0, 0.4], atol=1e-12)


def test_one_that_falls_behind_makes_the_pose_old():
    tree = tree_of(("base", "link", NONE, NONE, False), ("link", "tool", NONE, NONE, False))
    for ms in range(0, 1_900, 100):
        tree.add(NOW + ms * MS, "base", "link", NONE, (0, 0, 0, 1), is_static=False)
    assert tree.pose("base", "tool").stamp_ns == NOW
    for ms in range(1_900, 5_000, 100):
        tree.add(NOW + ms * MS, "base", "link", NONE, (0, 0, 0, 1), is_static=False)
    assert tree.pose("base", "tool") == "the transform of link in base is newer than all others"


def test_what_never_moves_has_no_moment():
    tree = tree_of(("base", "camera", (1, 2, 3), NONE, True))
    found = tree.pose("camera", "base")
    assert found.stamp_ns is None
    np.testing.assert_allclose(found.transform.position, [-1, -2, -3])


def test_a_slash_before_a_name_is_no_part_of_it():
    tree = tree_of(("/base", "/tool", (1, 2, 3), NONE, False))
    assert isinstance(tree.pose("base", "/tool"), FoundPose)


@pytest.mark.parametrize(
    ("frame", "child", "why"),
    [
        ("world", "tool", "no transform names frame world"),
        ("base", "tcp", "no transform names frame tcp"),
        ("base", "marker", "no transform connects base and marker: their roots are base and map"),
    ],
)
def test_what_is_missing_is_named(frame, child, why):
    tree = tree_of(("base", "tool", NONE, NONE, False), ("map", "marker", NONE, NONE, False))
    assert tree.pose(frame, child) == why


def test_a_circle_of_parents_ends():
    tree = tree_of(("a", "b", NONE, NONE, False), ("b", "a", NONE, NONE, False))
    assert isinstance(tree.pose("a", "b"), FoundPose | str)


def test_numbers_that_are_none_are_dropped():
    tree = TransformTree()
    assert not tree.add(NOW, "a", "b", (0, 0, 0), (0, 0, 0, 0), is_static=False)
    assert not tree.add(NOW, "a", "b", (0, float("nan"), 0), (0, 0, 0, 1), is_static=False)


def test_a_clock_that_is_set_back_begins_anew():
    tree = tree_of(("base", "tool", NONE, NONE, False))
    tree.add(NOW - 5_000 * MS, "base", "tool", (1, 0, 0), (0, 0, 0, 1), is_static=False)
    assert tree.pose("base", "tool").stamp_ns == NOW - 5_000 * MS


def test_a_child_with_a_new_parent_has_no_past():
    tree = tree_of(("base", "part", NONE, NONE, False), ("base", "hand", NONE, NONE, False))
    tree.add(NOW + MS, "hand", "part", (0, 0, 1), (0, 0, 0, 1), is_static=False)
    tree.add(NOW + MS, "base", "hand", (1, 0, 0), (0, 0, 0, 1), is_static=False)
    np.testing.assert_allclose(tree.pose("base", "part").transform.position, [1, 0, 1])

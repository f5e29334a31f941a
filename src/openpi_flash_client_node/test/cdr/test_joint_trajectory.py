"""joint_trajectory.py: rclpy reads what was meant, whatever the joints are called."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message
from trajectory_msgs.msg import JointTrajectory

from openpi_flash_client_node.ros.messages import trajectory_message
from openpi_flash_robot.cdr.joint_trajectory import JointTrajectoryWriter
from openpi_flash_robot.play.trajectory import Trajectory

NAMES = st.lists(
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=9),
    min_size=1,
    max_size=9,
)


def trajectory(points, joints, start_ns=3_000_000_007):
    numbers = np.random.default_rng(points).normal(size=(2, points, joints))
    times_ns = np.arange(points) * 1_020_000_001
    return Trajectory(start_ns, times_ns, numbers[0], numbers[1])


@given(names=NAMES, points=st.integers(0, 20), is_stamped=st.booleans())
def test_rclpy_reads_the_message_that_it_would_have_made_itself(names, points, is_stamped):
    meant = trajectory(points, len(names), 3_000_000_007 if is_stamped else None)
    written = JointTrajectoryWriter(names).write(meant)
    assert deserialize_message(written, JointTrajectory) == trajectory_message(meant, names)


@pytest.mark.parametrize("name", ["abc", "abcdefg"])
def test_the_points_may_begin_at_four_or_at_eight_bytes(name):
    writer = JointTrajectoryWriter([name])
    begins_at = len(writer.write(trajectory(0, 1))) - 4
    assert begins_at % 8 == (4 if name == "abcdefg" else 0)
    read = deserialize_message(writer.write(trajectory(2, 1)), JointTrajectory)
    assert [point.positions[0] for point in read.points] == trajectory(2, 1).positions[
        :, 0
    ].tolist()


def test_a_view_whose_columns_are_not_in_order_is_written_row_by_row():
    meant = trajectory(3, 4)
    turned = Trajectory(
        meant.start_ns,
        meant.times_ns,
        np.asfortranarray(meant.positions)[:, ::-1],
        np.asfortranarray(meant.velocities)[:, ::-1],
    )
    names = ["a", "b", "c", "d"]
    read = deserialize_message(JointTrajectoryWriter(names).write(turned), JointTrajectory)
    assert read == trajectory_message(turned, names)


def test_a_trajectory_of_no_joint_is_refused():
    with pytest.raises(ValueError, match="at least one joint"):
        JointTrajectoryWriter([])

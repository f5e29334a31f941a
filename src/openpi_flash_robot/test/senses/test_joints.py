"""joints.py: joint positions merged by name."""

import math

import numpy as np
import pytest

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.senses.joints import JointPositions, JointReading, prefixed

MS = 1_000_000
BLIND = {"max_blind_ns": 500 * MS, "max_age_ns": 200 * MS}
AGE = 200 * MS


def joints(topics=("/arm/joint_states", "/hand/joint_states")):
    return JointPositions(("shoulder", "elbow", "gripper"), topics)


def reason(table, now_ms):
    found = table.newest(now_ms * MS, max_age_ns=AGE)
    assert isinstance(found, Hold), found
    assert found.kind is HoldKind.OBSERVATION
    return found.message


def test_two_topics_merge_by_name_into_the_policys_order():
    table = joints()
    table.add(100 * MS, ["elbow", "shoulder", "tail"], [0.2, 0.1, 9.0])
    table.add(90 * MS, ["gripper"], [1.0])
    reading = table.newest(110 * MS, max_age_ns=AGE)
    assert isinstance(reading, JointReading)
    np.testing.assert_array_equal(reading.positions, [0.1, 0.2, 1.0])
    assert reading.oldest_ns == 90 * MS


def test_a_reading_does_not_change_with_the_next_message():
    table = joints()
    table.add(100 * MS, ["shoulder", "elbow", "gripper"], [1, 2, 3])
    reading = table.newest(100 * MS, max_age_ns=AGE)
    table.add(101 * MS, ["shoulder"], [7])
    np.testing.assert_array_equal(reading.positions, [1, 2, 3])


def test_joints_that_never_reported_are_named_with_the_topics():
    table = joints()
    table.add(100 * MS, ["elbow"], [0.2])
    assert reason(table, 110) == (
        "no position received yet of shoulder, gripper on /arm/joint_states, /hand/joint_states"
    )
    assert table.missing


def test_why_joints_never_reported_is_said_or_else_which_others_did():
    table = joints(("/joint_states",))
    missing = "no position received yet of shoulder, elbow, gripper on /joint_states"
    assert (table.has_heard, table.missing) == (False, True)
    table.explain_silence("nobody publishes /joint_states")
    assert reason(table, 110) == f"{missing}: nobody publishes /joint_states"
    table.explain_silence("")
    for _ in range(3):
        table.add(100 * MS, ["joint_1", "joint_2"], [1, 2])
    assert table.has_heard
    assert reason(table, 110) == f"{missing}: messages name joint_1, joint_2"
    table.add(100 * MS, ["shoulder", "elbow", "gripper"], [1, 2, 3])
    assert not table.missing


def test_messages_without_a_stamp_are_dropped_and_the_reason_says_so():
    table = joints(("/joint_states",))
    assert not table.add(0, ["shoulder", "elbow", "gripper"], [1, 2, 3])
    assert reason(table, 110) == (
        "positions of shoulder, elbow, gripper on /joint_states come without header.stamp; they "
        "are not used: have the driver set it, or set joint_state_stamp to arrival"
    )


def test_of_two_drivers_the_one_that_sets_no_stamp_is_named_by_its_joints():
    table = joints()
    table.add(0, ["gripper", "tail"], [0.3, 9.0])
    table.add(100 * MS, ["shoulder", "elbow"], [1, 2])
    assert reason(table, 110).startswith("positions of gripper on /arm/joint_states")
    table.add(100 * MS, ["gripper"], [0.3])
    table.add(0, ["gripper"], [0.3])
    table.add(900 * MS, ["shoulder", "elbow"], [1, 2])
    assert reason(table, 900).startswith("positions of gripper on")
    assert table.blind(900 * MS, **BLIND).message.startswith("positions of gripper on")
    table.add(200 * MS, ["gripper"], [0.3])
    assert reason(table, 900).startswith("joint gripper on")


def test_a_stale_joint_is_named_with_its_age():
    table = joints(("/joint_states",))
    table.add(100 * MS, ["shoulder", "elbow"], [1, 2])
    table.add(400 * MS, ["gripper", "elbow"], [1, 2])
    assert reason(table, 410) == (
        "joint shoulder on /joint_states is stale: its newest position is 0.31 s old, "
        "max_observation_age is 0.20 s"
    )


def test_joint_states_from_the_future_are_a_reason():
    table = joints(("/joint_states",))
    table.add(900 * MS, ["shoulder", "elbow", "gripper"], [1, 2, 3])
    assert reason(table, 100) == (
        "joint states on /joint_states are stamped 0.80 s in the future; "
        "synchronise the clocks of the robot and of this computer"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_no_news(value):
    table = joints()
    table.add(100 * MS, ["shoulder", "elbow", "gripper"], [1, 2, 3])
    table.add(110 * MS, ["shoulder", "elbow"], [value, 5])
    np.testing.assert_array_equal(table.newest(110 * MS, max_age_ns=AGE).positions, [1, 5, 3])


def test_a_name_without_a_position_is_no_news():
    table = joints()
    table.add(100 * MS, ["shoulder", "elbow", "gripper"], [1, 2])
    assert "no position received yet of gripper" in reason(table, 100)


def test_a_message_that_comes_out_of_order_changes_nothing_but_a_clock_set_back_does():
    table = joints()
    table.add(5_000 * MS, ["shoulder", "elbow", "gripper"], [1, 2, 3])
    table.add(4_990 * MS, ["shoulder"], [9])
    np.testing.assert_array_equal(table.newest(5_000 * MS, max_age_ns=AGE).positions, [1, 2, 3])
    table.add(100 * MS, ["shoulder", "elbow", "gripper"], [4, 5, 6])
    np.testing.assert_array_equal(table.newest(100 * MS, max_age_ns=AGE).positions, [4, 5, 6])


def test_it_knows_how_far_each_joint_has_moved_lately():
    joints = JointPositions(("a", "b"), ["/joint_states"])
    assert joints.moved().tolist() == [0.0, 0.0]
    for k in range(100):
        joints.add((k + 1) * 20_000_000, ["a"], [0.01 * k])
    assert joints.moved()[0] == pytest.approx(0.15)  # 0.3 s of 0.5 rad/s
    assert joints.moved()[1] == 0.0  # not known
    for k in range(100, 120):
        joints.add((k + 1) * 20_000_000, ["a", "b"], [1.0, 2.0])
    assert joints.moved().tolist() == [0.0, 0.0]


def test_where_time_was_set_back_what_was_before_does_not_count():
    joints = JointPositions(("a",), ["/joint_states"])
    joints.add(10_000_000_000, ["a"], [0.0])
    joints.add(5_000_000_000, ["a"], [1.0])
    assert joints.moved().tolist() == [0.0]


def test_a_joint_that_is_named_twice_has_no_position_and_is_named():
    joints = JointPositions(("a", "b"), ["/joint_states"])
    assert joints.add(1_000_000_000, ["a", "b"], [0.1, 0.2])
    assert not joints.add(1_020_000_000, ["a", "b", "a"], [0.1, 0.2, 1.3])
    assert joints.newest(1_020_000_000, max_age_ns=500_000_000).positions.tolist() == [0.1, 0.2]
    reason = joints.newest(1_600_000_000, max_age_ns=500_000_000)
    assert reason.message.startswith("joint a is named twice in a message on /joint_states")
    assert joints.blind(1_400 * MS, **BLIND) is None
    assert "named twice" in joints.blind(1_600 * MS, **BLIND).message
    joints.add(1_620_000_000, ["b", "a"], [0.2, 0.1])
    assert joints.newest(1_620_000_000, max_age_ns=500_000_000).positions.tolist() == [0.1, 0.2]


def test_a_joint_of_others_may_be_named_as_often_as_it_likes():
    joints = JointPositions(("a",), ["/joint_states"])
    assert joints.add(1_000_000_000, ["a", "wheel", "wheel"], [0.1, 1.0, 2.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_position_that_is_not_finite_is_named(value):
    joints = JointPositions(("a", "b"), ["/joint_states"])
    joints.add(1_000_000_000, ["a", "b"], [0.1, 0.2])
    joints.add(1_020_000_000, ["a", "b"], [0.1, value])
    reason = joints.newest(1_600_000_000, max_age_ns=500_000_000)
    assert reason.message == f"the position of joint b on /joint_states is {value}"
    joints.add(1_040_000_000, ["a", "b"], [0.1, 0.3])
    assert joints.newest(1_040_000_000, max_age_ns=500_000_000).positions.tolist() == [0.1, 0.3]


def swinging(period_ns=20_000_000, count=60):
    joints = JointPositions(("a", "b"), ["/joint_states"])
    for k in range(1, count + 1):
        joints.add(k * period_ns, ["a", "b"], [0.5 * k * period_ns / 1e9, -0.1])
    return joints, joints.newest(count * period_ns, max_age_ns=500_000_000)


def test_between_two_messages_a_position_lies_between_theirs():
    joints, newest = swinging()
    reading = joints.at(1_013_000_000, newest)
    assert reading.oldest_ns == 1_013_000_000
    np.testing.assert_allclose(reading.positions, [0.5 * 1.013, -0.1])


def test_after_the_newest_message_nothing_is_guessed():
    joints, newest = swinging()
    assert joints.at(1_200_000_000, newest) is newest
    assert joints.at(9_000_000_000, newest) is newest


def test_what_is_not_remembered_any_more_is_not_guessed():
    joints, newest = swinging()
    assert joints.at(150_000_000, newest) is newest


def test_before_every_joint_was_heard_there_is_nothing_between():
    joints = JointPositions(("a", "b"), ["/joint_states"])
    joints.add(1_000_000_000, ["a"], [0.1])
    joints.add(1_100_000_000, ["a", "b"], [0.2, 0.3])
    newest = joints.newest(1_100_000_000, max_age_ns=500_000_000)
    assert joints.at(1_050_000_000, newest) is newest


@pytest.mark.parametrize(
    ("names", "prefix", "expected"),
    [
        (["waist", "elbow"], "left_", ["left_waist", "left_elbow"]),
        ([], "left_arm_joint", ["left_arm_joint1", "left_arm_joint2"]),
        (["", ""], "left_arm_joint", ["left_arm_joint1", "left_arm_joint2"]),
        (["waist", "elbow"], "", ["waist", "elbow"]),
        ([], "", []),
    ],
)
def test_a_topics_prefix_tells_arms_apart_and_names_joints_that_have_none(names, prefix, expected):
    assert prefixed(names, 2, prefix) == expected

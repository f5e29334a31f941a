"""states.py, vectors.py: each number of a request comes from its own source."""

import math

import numpy as np
import pytest

from openpi_flash_robot.hold import Hold
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.states import StateSources
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

MS = 1_000_000
NOW = 5_000 * MS
STATES = {
    "states": ["arm", "speed", "eef", "hand"],
    "state.arm.key": "observation/joint_position",
    "state.arm.joints": ["elbow", "shoulder"],
    "state.speed.key": "observation/speed",
    "state.speed.kind": "joint_velocities",
    "state.speed.joints": ["shoulder"],
    "state.eef.key": "observation/state",
    "state.eef.kind": "pose",
    "state.eef.topic": "/eef",
    "state.eef.rotation": "quat_xyzw",
    "state.hand.key": "observation/state",
    "state.hand.joints": ["gripper"],
    "state.hand.scale": [-1.25],
    "state.hand.offset": [1.0],
}
LONGEST = {"max_blind_ns": 500 * MS, "max_age_ns": 200 * MS}
POSE = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0]


@pytest.fixture
def sources(parameters):
    return StateSources(settings_from_parameters(parameters | STATES).observation)


def read(sources, now=NOW):
    joints = sources.joints.newest(now, max_age_ns=200 * MS)
    assert isinstance(joints, JointReading)
    return sources.newest(now, max_age_ns=200 * MS, joints=joints)


def speak(sources, at=NOW):
    names = ["shoulder", "elbow", "gripper"]
    sources.add_joints(at, names, [0.1, 0.2, 0.4], [1.0, 2.0, 3.0])
    sources.add_vector("eef", at - 30 * MS, POSE)


def test_each_input_is_where_the_server_reads_it_in_its_own_order_and_scale(sources):
    speak(sources)
    reading = read(sources)
    np.testing.assert_allclose(reading.values[("observation/joint_position",)], [0.2, 0.1])
    np.testing.assert_allclose(reading.values[("observation/speed",)], [1.0])
    np.testing.assert_allclose(reading.values[("observation/state",)], [*POSE, 0.5])
    assert reading.oldest_ns == NOW - 30 * MS


def test_a_driver_that_sends_no_velocities_is_named(sources):
    sources.add_joints(NOW, ["shoulder", "elbow", "gripper"], [0.1, 0.2, 0.4])
    sources.add_vector("eef", NOW, POSE)
    reason = read(sources)
    assert reason.message.startswith("no velocity received yet of shoulder, elbow, gripper on")


@pytest.mark.parametrize(
    ("stamp", "values", "text"),
    [
        (0, POSE, "state eef (/eef) sends messages without header.stamp"),
        (NOW, POSE[:6], "state eef (/eef) has 6 numbers, expected 7"),
        (NOW, [math.nan, *POSE[1:]], "state eef (/eef) has a value that is nan"),
        (NOW - 300 * MS, POSE, "state eef (/eef) is stale: it is 0.30 s old"),
        (NOW + 300 * MS, POSE, "state eef (/eef) is stamped 0.30 s in the future"),
    ],
)
def test_a_vector_that_cannot_be_used_is_named_for_what_it_is(sources, stamp, values, text):
    sources.add_joints(NOW, ["shoulder", "elbow", "gripper"], [0.1, 0.2, 0.4], [0.0] * 3)
    sources.add_vector("eef", stamp, values)
    reason = read(sources)
    assert isinstance(reason, Hold)
    assert reason.message.startswith(text)


def test_joint_states_that_were_never_heard_are_named_and_any_message_ends_that(sources):
    assert sources.why_never_heard(NOW).message.startswith("no position received yet of shoulder")
    sources.add_joints(NOW, ["another"], [0.0])
    assert sources.why_never_heard(NOW) is None


def test_a_silent_input_of_any_kind_is_blindness(sources):
    assert "joint shoulder" in sources.blind(NOW, **LONGEST).message
    speak(sources)
    assert sources.blind(NOW, **LONGEST) is None
    names = ["shoulder", "elbow", "gripper"]
    sources.add_joints(NOW + 600 * MS, names, [0.1] * 3, [0.0] * 3)
    silent = sources.blind(NOW + 600 * MS, **LONGEST)
    assert silent.message == (
        "state eef (/eef) is silent: it is 0.63 s old, max_blind_time is 0.50 s"
    )


def test_an_older_vector_does_not_take_the_place_of_a_newer_one(sources):
    speak(sources)
    sources.add_vector("eef", NOW - 100 * MS, [9.0] * 7)
    np.testing.assert_allclose(read(sources).values[("observation/state",)][:7], POSE)


def test_without_joints_nothing_is_asked_of_them(parameters):
    del parameters["controller.arm.joints"], parameters["controller.hand.joints"]
    base = {
        "joints": [""],
        "axes": ["x", "rotation"],
        "action_kind": ["base_twist"],
        "controllers": ["base"],
        "controller.base.kind": "base",
        "states": ["odom"],
        "state.odom.kind": "vector",
        "state.odom.size": 2,
        "state.odom.topic": "/odom_vector",
        "state.odom.key": "observation/state",
        "max_velocity": [0.5],
        "position_lower": [-math.inf],
        "position_upper": [math.inf],
    }
    sources = StateSources(settings_from_parameters(parameters | base).observation)
    sources.add_vector("odom", NOW, [1.0, 2.0])
    assert sources.blind(NOW, max_blind_ns=MS, max_age_ns=MS) is None
    np.testing.assert_allclose(read(sources).values[("observation/state",)], [1.0, 2.0])
    assert sources.why_never_heard(NOW) is None

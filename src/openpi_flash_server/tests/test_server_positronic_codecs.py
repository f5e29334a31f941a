"""Positronic's codecs: what a policy reads of an observation, and what a chunk commands."""

from typing import get_args

import numpy as np
import pytest

from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_server.positronic.codecs import (
    CODECS,
    ChunkTiming,
    CodecName,
    decode_actions,
    encode_observation,
    rotation_matrix,
)

Q = np.arange(7) / 10
POSE = [0.1, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0]
OBSERVATION = {
    "robot_state.q": Q.astype(np.float32),
    "robot_state.ee_pose": np.array(POSE),
    "grip": 0.25,
    "image.wrist": np.full((168, 224, 3), 50, np.uint8),
    "image.exterior": np.full((240, 320, 3), 200, np.uint8),
    "task": "stack the cubes",
}
TIMING = ChunkTiming()


def encode(name, observation=OBSERVATION, *, flip_grip=False):
    return encode_observation(CODECS[name], observation, flip_grip=flip_grip)


def decode(name, rows, *, flip_grip=False):
    return decode_actions(CODECS[name], np.array(rows), TIMING, flip_grip=flip_grip)


def test_there_are_the_six_codecs_of_positronic():
    assert set(CODECS) == set(get_args(CodecName))


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("ee", [*POSE, 0.25]),
        ("ee_traj", [*POSE, 0.25]),
        ("ee_joints", [*POSE, 0.25, *Q]),
        ("ee_joints_traj", [*POSE, 0.25, *Q]),
        ("joints_traj", [*Q, 0.25]),
    ],
)
def test_the_state_is_joined_in_positronics_order(name, state):
    encoded = encode(name)
    assert encoded["observation/state"].dtype == np.float32
    np.testing.assert_allclose(encoded["observation/state"], state, rtol=1e-6)
    assert set(encoded) == {
        "observation/state",
        "observation/wrist_image",
        "observation/image",
        "prompt",
    }
    assert encoded["prompt"] == "stack the cubes"


def test_droid_has_seven_joints_and_the_gripper_apart():
    encoded = encode("droid")
    np.testing.assert_allclose(encoded["observation/joint_position"], Q, rtol=1e-6)
    assert encoded["observation/gripper_position"].tolist() == [0.25]
    assert encoded["observation/wrist_image_left"][112, 112, 0] == 50
    assert encoded["observation/exterior_image_1_left"][112, 112, 0] == 200


def test_images_keep_their_aspect_between_black_bars():
    image = encode("ee")["observation/wrist_image"]
    assert image.shape == (224, 224, 3)
    rows = np.flatnonzero(image.any(axis=(1, 2)))
    assert (rows[0], rows[-1]) == (28, 195)


def test_states_may_be_lists_and_the_task_may_be_missing():
    observation = {**OBSERVATION, "robot_state.q": Q.tolist(), "grip": [0.25]}
    del observation["task"]
    encoded = encode("joints_traj", observation)
    np.testing.assert_allclose(encoded["observation/state"], [*Q, 0.25], rtol=1e-6)
    assert "prompt" not in encoded


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("robot_state.q", None, "robot_state.q: missing; the observation has grip, image.exterior"),
        ("robot_state.q", np.zeros(6), "robot_state.q: expected 7 numbers, got 6"),
        ("robot_state.q", "up", "robot_state.q: expected 7 numbers, got str"),
        ("grip", np.zeros(2), "grip: expected 1 numbers, got 2"),
        ("image.wrist", np.zeros((4, 4, 3)), "image.wrist: expected uint8"),
        ("image.wrist", np.zeros((0, 4, 3), np.uint8), "image.wrist: expected uint8"),
        ("task", 7, "task: expected text, got int"),
    ],
)
def test_a_wrong_observation_is_named_by_its_key(key, value, message):
    observation = {**OBSERVATION, key: value}
    if value is None:
        del observation[key]
    with pytest.raises(ObservationError) as wrong:
        encode("joints_traj", observation)
    assert str(wrong.value).startswith(message)


def test_a_pose_becomes_a_position_and_a_rotation_matrix_by_rows():
    # a quarter turn about z, from a quaternion of length 2
    half = np.sqrt(2)
    (action,) = decode("ee", [[0.1, 0.2, 0.3, half, 0, 0, half, 0.4]])
    assert action["robot_command"]["type"] == "cartesian_pos"
    np.testing.assert_allclose(
        action["robot_command"]["pose"], [0.1, 0.2, 0.3, 0, -1, 0, 1, 0, 0, 0, 0, 1], atol=1e-12
    )
    assert action["target_grip"] == pytest.approx(0.4)


def test_a_rotation_matrix_turns_as_its_quaternion_does():
    rng = np.random.default_rng(3)
    for wxyz in rng.normal(size=(20, 4)):
        matrix = rotation_matrix(wxyz)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        np.testing.assert_allclose(matrix @ wxyz[1:], wxyz[1:], atol=1e-12)
        assert np.trace(matrix) == pytest.approx(4 * wxyz[0] ** 2 / (wxyz @ wxyz) - 1)


@pytest.mark.parametrize(("grip", "command"), [(0.5, 0.0), (0.51, 1.0)])
@pytest.mark.parametrize("name", ["ee_traj", "ee_joints_traj", "joints_traj", "droid"])
def test_a_codec_of_trajectories_closes_the_grip_above_a_half(name, grip, command):
    (action,) = decode(name, [[0, 0, 0, 1, 0, 0, 0, grip]])
    assert action["target_grip"] == command


def test_joints_are_commanded_as_they_are_and_droid_by_clipped_steps():
    row = [-2, -1, -0.5, 0, 0.5, 1, 2, 0]
    (action,) = decode("joints_traj", [row])
    assert action["robot_command"]["type"] == "joint_pos"
    assert action["robot_command"]["positions"].tolist() == row[:7]
    (action,) = decode("droid", [row])
    assert action["robot_command"]["type"] == "joint_delta"
    np.testing.assert_allclose(
        action["robot_command"]["velocities"], [-0.2, -0.2, -0.1, 0, 0.1, 0.2, 0.2]
    )


def test_a_second_of_a_chunk_is_sent_with_its_times():
    actions = decode("joints_traj", np.zeros((50, 8)))
    assert len(actions) == 15
    assert actions[0]["timestamp"] == 0
    assert actions[-1]["timestamp"] == pytest.approx(14 / 15)
    assert len(decode("joints_traj", np.zeros((10, 32)))) == 10


@pytest.mark.parametrize(
    ("fps", "horizon_sec", "rows"),
    [(15, 8 / 15, 8), (20, 0.25, 5), (15, 0.01, 1), (3, 0.5, 2), (15, 10, 50)],
)
def test_rows_before_the_horizon_are_sent(fps, horizon_sec, rows):
    assert ChunkTiming(fps, horizon_sec).rows(50) == rows


def test_the_other_convention_of_grips_is_turned_round_in_both_directions():
    assert encode("ee", flip_grip=True)["observation/state"][7] == pytest.approx(0.75)
    assert decode("ee", [[0, 0, 0, 1, 0, 0, 0, 0.75]], flip_grip=True)[0]["target_grip"] == 0.25
    assert decode("ee_traj", [[0, 0, 0, 1, 0, 0, 0, 0.9]], flip_grip=True)[0]["target_grip"] == 0


@pytest.mark.parametrize("rows", [np.zeros((15, 7)), np.zeros(8), np.zeros((0, 8))])
def test_a_chunk_of_another_shape_is_an_error_with_the_shape(rows):
    with pytest.raises(ModelOutputError, match=r"8 or more\], the policy answers \["):
        decode("ee", rows)


def test_a_quaternion_without_direction_commands_nothing():
    with pytest.raises(ModelOutputError, match="length 0"):
        decode("ee", [np.zeros(8)])

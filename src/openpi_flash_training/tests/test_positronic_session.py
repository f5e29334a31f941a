"""A session of Positronic's API moves the simulated arm, asked of our own server."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from policy_server import served

from flash_transport import Disconnected, ServerError
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.live.hand_rotation import pose_for, quaternion_wxyz, rotation_of
from openpi_flash_training.live.positronic_session import PositronicSession, joint_chunk
from sim_robot.kinematics import DOWN, Pose, joints_for, pose_of

START = (*joints_for(Pose((0.33, 0.05, 0.15), DOWN, 0.1, 0.3)), 0.0)


@given(
    point=st.tuples(st.floats(0.2, 0.4), st.floats(-0.2, 0.2), st.floats(0.05, 0.3)),
    pitch=st.floats(DOWN - 0.5, DOWN + 0.1),
    yaw=st.floats(-0.4, 0.4),
    roll=st.floats(-2.5, 2.5),
)
def test_a_pose_goes_through_a_rotation_matrix_and_back(point, pitch, yaw, roll):
    pose = Pose(point, pitch, yaw, roll)
    rotation = rotation_of(pose, joints_for(pose)[0])
    again = pose_for(np.array(point), rotation)
    assert_allclose([again.pitch, again.yaw, again.roll], [pitch, yaw, roll], atol=1e-6)
    w, x, y, z = quaternion_wxyz(rotation)
    assert w >= 0
    forward = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    assert_allclose(forward, rotation[:, 0], atol=1e-9)


def test_joints_are_played_as_they_are_and_what_is_out_of_reach_stays():
    joints = list(np.array(START[:6]) + 0.05)
    rows = [
        {"robot_command": {"type": "joint_pos", "positions": joints}, "target_grip": 0.5},
        {
            "robot_command": {"type": "cartesian_pos", "pose": [5, 0, 0, *np.eye(3).ravel()]},
            "target_grip": 1.0,
        },
    ]
    chunk = joint_chunk(rows, np.array(START))
    assert_allclose(chunk[0], [*joints, 0.5])
    assert_allclose(chunk[1], [*joints, 1.0])
    with pytest.raises(ServerError, match="does not play 'joint_delta'"):
        joint_chunk([{"robot_command": {"type": "joint_delta"}}], np.array(START))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with served(folder, "python:lifting_policy:Lift", positronic={"codec": "ee"}) as found:
        yield found.websocket


def test_the_poses_of_a_session_lift_the_hand_and_keep_its_turn(server):
    session = PositronicSession(server)
    metadata = session.get_server_metadata()
    assert metadata["action_rate_hz"] == 15
    picture = np.zeros((240, 320, 3), np.uint8)
    result, _ = session.infer_with_stats(
        {
            "observation/state": np.array(START, np.float32),
            "observation/scene_image": picture,
            "observation/wrist_image": picture,
            "prompt": "lift",
        },
        30.0,
    )
    session.close()
    chunk = result["actions"]
    assert chunk.shape == (15, 7)
    before = pose_of(START)
    for step, row in enumerate(chunk):
        hand = pose_of(tuple(row))
        x, y, z = before.point
        assert_allclose(hand.point, [x, y, z + 0.01 * step], atol=1e-5)
        assert_allclose([hand.pitch, hand.roll], [before.pitch, before.roll], atol=1e-3)
    assert (chunk[:, 6] == 1.0).all()


def test_the_command_plays_a_session_on_the_arm(server, tmp_path):
    from typer.testing import CliRunner

    from openpi_flash_server.cli import app
    from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend

    try:
        choose_gl_backend()
    except RenderingUnavailableError as error:
        pytest.skip(f"no OpenGL on this machine: {error}")
    arguments = ["sim", server, "--transport", "session", "--episodes", "1"]
    arguments += ["--simulation-time", "6", "--output-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    states = Dataset.open(tmp_path / "out").numbers(0)["observation.state"]
    heights = [pose_of(tuple(row)).point[2] for row in states]
    assert max(heights) > heights[0] + 0.03
    assert "0 of 1 episodes done" in result.stdout


def test_a_server_without_sessions_is_an_error_that_names_it():
    with pytest.raises(Disconnected, match="127.0.0.1:9 has no session for this arm"):
        PositronicSession("127.0.0.1:9", connect_timeout=5.0)

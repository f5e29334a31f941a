"""The closed forms agree with the model, and say no where the arm cannot go."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sim_robot.kinematics import DOWN, Pose, UnreachableError, joints_for, pose_of
from sim_robot.plant import MODEL_PATH
from sim_robot.robot import JOINTS, LOWER_LIMITS, UPPER_LIMITS
from sim_robot.starts import APART, SPREAD_X, SPREAD_Y, spread


def test_the_hand_is_where_the_model_has_its_grasp_point():
    model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
    data = mujoco.MjData(model)
    addresses = [int(model.joint(name).qposadr[0]) for name in JOINTS[:-1]]
    rng = np.random.default_rng(0)
    for _ in range(50):
        joints = rng.uniform(LOWER_LIMITS[:-1], UPPER_LIMITS[:-1])
        data.qpos[addresses] = joints
        mujoco.mj_kinematics(model, data)
        assert_allclose(pose_of(tuple(joints)).point, data.site("grasp").xpos, atol=1e-9)


@given(
    point=st.tuples(st.floats(0.2, 0.45), st.floats(-0.25, 0.3), st.floats(0.02, 0.32)),
    pitch=st.floats(DOWN - 0.3, DOWN + 0.1),
    yaw=st.floats(-0.3, 0.3),
    roll=st.floats(-0.5, 0.5),
)
def test_the_joints_for_a_pose_bring_the_hand_there(point, pitch, yaw, roll):
    wanted = Pose(point, pitch, yaw, roll)
    got = pose_of(joints_for(wanted))
    assert_allclose(got.point, wanted.point, atol=1e-9)
    assert_allclose([got.pitch, got.yaw, got.roll], [pitch, yaw, roll], atol=1e-9)


@pytest.mark.parametrize("point", [(1.0, 0.0, 0.1), (0.001, 0.0, 0.3), (0.05, 0.0, 0.45)])
def test_a_pose_out_of_reach_is_an_error_that_names_it(point):
    with pytest.raises(UnreachableError, match=rf"\({point[0]:.3f}, "):
        joints_for(Pose(point, yaw=0.1))


def test_spread_starts_keep_cubes_apart_and_within_the_workspace():
    for seed in range(200):
        start = spread(np.random.default_rng(seed))
        for cube in start.cubes:
            assert SPREAD_X[0] <= cube.x <= SPREAD_X[1]
            assert SPREAD_Y[0] <= cube.y <= SPREAD_Y[1]
        gaps = [
            math.hypot(a.x - b.x, a.y - b.y)
            for index, a in enumerate(start.cubes)
            for b in start.cubes[:index]
        ]
        assert min(gaps) >= APART
    assert spread(np.random.default_rng(5)) == spread(np.random.default_rng(5))

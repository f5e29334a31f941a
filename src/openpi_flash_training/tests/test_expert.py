"""The scripted expert does its tasks, and can be asked from any state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from openpi_flash_training.demonstrations.episode import SECONDS, EpisodePlan, demonstrate
from openpi_flash_training.demonstrations.expert import JOINT_SPEED, SPEED, chunk, intent, seen
from openpi_flash_training.demonstrations.noise import CommandNoise, NoiseSettings
from sim_robot.kinematics import Pose, joints_for, pose_of
from sim_robot.plant import Plant
from sim_robot.robot import CUBES, LOWER_LIMITS, UPPER_LIMITS
from sim_robot.scene_state import SceneState
from sim_robot.starts import spread
from sim_robot.tasks import RESTING, TASKS, Outcome, holds

CUBE_PLACES = ((0.33, 0.0, RESTING), (0.40, 0.12, RESTING), (0.27, -0.12, RESTING))


@pytest.fixture(scope="module")
def plant():
    return Plant()


def standing(point, grip=0.0, **more):
    return SceneState(0.0, (*joints_for(Pose(point)), grip), CUBE_PLACES, **more)


@pytest.mark.parametrize(("task", "episodes"), [("touch", 12), ("pick", 12), ("place", 6)])
def test_the_expert_does_every_task_from_random_starts(plant, task, episodes):
    for index in range(episodes):
        plan = EpisodePlan(
            task, CUBES[index % 3], (11, index), seconds=SECONDS[task], noise=None, horizon=2
        )
        assert demonstrate(plant, None, plan).progress.outcome is Outcome.SUCCESS, plan


def test_a_chunk_begins_where_the_arm_is_and_keeps_to_the_speed_and_the_limits(plant):
    for seed in range(10):
        plant.reset(seed, spread)
        state = plant.state()
        for name, task in TASKS.items():
            rows = chunk(task, "green_cube", state, horizon=20, step_s=0.1)
            assert rows.shape == (20, 7)
            assert_allclose(rows[0, :6], state.joints[:6])
            assert (rows >= LOWER_LIMITS).all()
            assert (rows <= UPPER_LIMITS).all()
            points = np.array([pose_of(tuple(row)).point for row in rows])
            moved = np.linalg.norm(np.diff(points, axis=0), axis=1)
            # a joint at its own limit may lead the hand a little aside
            assert moved.max() <= 1.01 * SPEED * 0.1, name
            assert np.abs(np.diff(rows[:, :6], axis=0)).max() <= JOINT_SPEED * 0.1 + 1e-9
            assert set(rows[:, 6]) <= {0.0, 1.0}


def test_a_chunk_is_what_single_steps_amount_to():
    """The first rows of a chunk do not depend on how long it is."""
    state = standing((0.3, -0.1, 0.25))
    long = chunk(TASKS["pick"], "red_cube", state, horizon=16, step_s=0.1)
    assert_allclose(chunk(TASKS["pick"], "red_cube", state, horizon=5, step_s=0.1), long[:5])


def test_a_low_hand_beside_the_cube_rises_before_it_goes_over():
    wanted = intent(TASKS["pick"], "green_cube", seen(standing((0.30, -0.05, 0.03))))
    assert wanted.point[2] > 0.09
    assert wanted.point[:2] == pytest.approx((0.30, -0.05), abs=1e-9)


def test_at_the_cube_the_gripper_closes_and_with_it_in_the_fingers_it_rises():
    at = standing((0.33, 0.0, RESTING))
    assert intent(TASKS["pick"], "red_cube", seen(at)).stage == "grasp"
    assert chunk(TASKS["pick"], "red_cube", at, horizon=1, step_s=0.1)[0, 6] == 1.0
    held = replace(
        standing((0.33, 0.0, RESTING), grip=0.46),
        touched=frozenset({"red_cube"}),
        gripped=frozenset({"red_cube"}),
    )
    wanted = intent(TASKS["pick"], "red_cube", seen(held))
    assert wanted.stage == "lift"
    assert wanted.is_closed
    assert wanted.point[2] > RESTING + 0.05


@pytest.mark.parametrize(
    ("aside", "above", "stage"),
    [(0.02, 0.08, "grasp"), (0.04, 0.08, "reach"), (0.02, 0.12, "reach")],
)
def test_grasping_begins_where_the_cube_counts_as_reached(aside, above, stage):
    x, y, z = CUBE_PLACES[0]
    state = standing((x + aside, y, z + above))
    assert intent(TASKS["pick"], "red_cube", seen(state)).stage == stage
    assert holds(TASKS["pick"], "reach", "red_cube", state) == (stage == "grasp")


def test_a_cube_that_is_up_is_still_lifted():
    up = replace(
        standing((0.33, 0.0, RESTING + 0.10), grip=0.46),
        cubes=((0.33, 0.0, RESTING + 0.10), *CUBE_PLACES[1:]),
        touched=frozenset({"red_cube"}),
        gripped=frozenset({"red_cube"}),
    )
    assert intent(TASKS["pick"], "red_cube", seen(up)).stage == "lift"


def test_a_gripper_that_closes_goes_on_although_the_hand_is_a_little_high():
    x, y, z = CUBE_PLACES[0]
    high = (x, y, z + 0.015)
    closing = intent(TASKS["pick"], "red_cube", seen(standing(high, grip=0.25)))
    assert closing.is_closed
    assert not intent(TASKS["pick"], "red_cube", seen(standing(high))).is_closed


def test_asked_for_another_cube_it_opens_and_leaves_the_one_it_holds():
    held = replace(standing((0.33, 0.0, 0.13), grip=0.46), gripped=frozenset({"red_cube"}))
    cubes = ((0.33, 0.0, 0.13), *CUBE_PLACES[1:])
    wanted = intent(TASKS["pick"], "blue_cube", seen(replace(held, cubes=cubes)))
    assert not wanted.is_closed
    assert wanted.point[:2] == pytest.approx(CUBE_PLACES[2][:2])


def test_an_imagined_grasp_takes_as_long_as_the_gripper_needs():
    at = standing((0.33, 0.0, RESTING))
    rows = chunk(TASKS["pick"], "red_cube", at, horizon=8, step_s=0.1)
    heights = np.array([pose_of(tuple(row)).point[2] for row in rows])
    rises = int(np.argmax(heights > heights[0] + 1e-6))
    assert rises == 4  # 0.46 of its way at 2 a second, and then one step


def test_a_state_out_of_reach_still_gets_a_chunk():
    stretched = SceneState(0.0, (0.0, 1.2, -0.2, 0.0, 0.0, 0.0, 0.0), CUBE_PLACES)
    rows = chunk(TASKS["touch"], "red_cube", stretched, horizon=6, step_s=0.1)
    assert np.isfinite(rows).all()


def test_noise_is_seeded_comes_in_bursts_and_has_the_size_it_is_given():
    settings = NoiseSettings(sigma=(0.05, 0.05), calm_share=0.0)

    def drawn(seed):
        noise = CommandNoise(settings, np.random.default_rng(seed), 6, 0.1)
        return np.array([noise.next() for _ in range(4000)])

    values = drawn(1)
    assert_allclose(values, drawn(1))
    quiet = (values == 0).all(axis=1)
    assert 0.5 < quiet.mean() < 0.85
    assert values[~quiet].std() == pytest.approx(0.05, rel=0.15)
    calm = CommandNoise(replace(settings, calm_share=1.0), np.random.default_rng(0), 6, 0.1)
    assert all((calm.next() == 0).all() for _ in range(50))


def test_a_disturbed_demonstration_is_labelled_with_what_leads_back(plant):
    plan = EpisodePlan("touch", "red_cube", (3, 1), seconds=4.0, noise=NoiseSettings(calm_share=0))
    noisy = demonstrate(plant, None, plan)
    again = demonstrate(plant, None, plan)
    for name, values in noisy.numbers.items():
        assert_allclose(values, again.numbers[name], err_msg=name)
    calm = demonstrate(plant, None, replace(plan, noise=None))
    assert not np.allclose(noisy.numbers["observation.state"], calm.numbers["observation.state"])
    chunks = noisy.numbers["label.chunks"]
    assert_allclose(chunks[:, 0, 0, :6], noisy.numbers["observation.state"][:, :6], atol=1e-6)
    assert_allclose(chunks[:, 0, 1, :6], noisy.numbers["action"][:, :6], atol=1e-6)

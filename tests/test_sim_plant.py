"""The simulated arm: it goes where it is told, keeps to its limits, and is the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sim_robot.plant import Plant
from sim_robot.robot import (
    CAMERAS,
    CUBE_HALF,
    CUBES,
    HOME,
    JOINTS,
    LOWER_LIMITS,
    PLATE,
    PLATE_RADIUS,
    PLATE_Z,
    TABLE_Z,
    UPPER_LIMITS,
)
from sim_robot.starts import CUBE_PLACES, near_home, spread

AT_REST = np.zeros(len(JOINTS))


def run(plant, seconds, target, velocity=AT_REST):
    for _ in range(round(seconds / plant.timestep)):
        plant.command(np.asarray(target, dtype=float), velocity)
        plant.step()


def test_the_model_has_the_joints_limits_actuators_and_cameras_of_the_table():
    model = Plant().model
    for name, lower, upper in zip(JOINTS[:-1], LOWER_LIMITS, UPPER_LIMITS, strict=False):
        assert_allclose(model.joint(name).range, [lower, upper])
    assert [model.actuator(i).name for i in range(model.nu)] == list(JOINTS)
    assert [model.camera(i).name for i in range(model.ncam)] == list(CAMERAS)
    for cube, place in zip(CUBES, CUBE_PLACES, strict=True):
        assert model.body(cube).mass[0] > 0
        assert_allclose(model.body(cube).pos[:2], place)
        assert_allclose(model.geom(cube).size, CUBE_HALF)
    plate = model.geom("plate")
    assert_allclose(model.body("plate").pos[:2], PLATE)
    assert_allclose([plate.size[0], 2 * plate.size[1]], [PLATE_RADIUS, PLATE_Z])
    assert_allclose(2 * model.geom("mat").size[2], TABLE_Z)


def test_it_starts_at_home_and_stays_there():
    plant = Plant()
    assert_allclose(plant.positions, HOME, atol=1e-12)
    run(plant, 1.0, HOME)
    assert_allclose(plant.positions, HOME, atol=1e-3)
    assert plant.time == pytest.approx(1.0)


@pytest.mark.parametrize("joint", range(len(JOINTS)), ids=JOINTS)
def test_each_joint_reaches_its_target(joint):
    plant = Plant()
    target = np.array(HOME)
    target[joint] += 0.4
    run(plant, 1.0, target)
    assert_allclose(plant.positions, target, atol=2e-3)
    assert_allclose(plant.velocities, 0, atol=1e-2)


def test_motion_at_one_radian_per_second_is_tracked_within_five_milliradians():
    plant = Plant()
    amplitude = np.array([0.5, 0.3, 0.3, 0.5, 0.5, 0.5, 0.4])
    centre = np.array(HOME)
    centre[-1] = 0.5
    errors = []
    for step in range(2000):
        time = step * plant.timestep
        ramp = min(1.0, time)  # from rest
        target = HOME + ramp * (centre - HOME + amplitude * np.sin(2 * time))
        velocity = ramp * amplitude * 2 * np.cos(2 * time)
        plant.command(target, velocity)
        plant.step()
        if time > 1.5:
            errors.append(plant.positions - target)
    assert np.abs(errors).max() < 5e-3


@pytest.mark.parametrize("joint", range(len(JOINTS)), ids=JOINTS)
def test_a_command_beyond_a_limit_stops_at_the_limit(joint):
    plant = Plant()
    upright = np.array([0, 0, 0, 0, 0, 0, 0.5])
    for limit, beyond in ((LOWER_LIMITS, -1.0), (UPPER_LIMITS, 1.0)):
        run(plant, 0.8, upright)
        target = upright.copy()
        target[joint] = limit[joint] + beyond
        if JOINTS[joint] == "shoulder_lift" and beyond > 0:
            target[2:4] = -0.2, -1.5  # else the hand meets the table
        run(plant, 2.0, target)
        assert plant.positions[joint] == pytest.approx(limit[joint], abs=0.01)


def test_the_table_stops_the_hand_and_the_servos_give_way():
    plant = Plant()
    down = [0.0, 0.9, 1.2, 0.3, 0.0, 0.0, 0.0]
    run(plant, 2.0, down)
    assert np.isfinite(plant.positions).all()
    assert np.abs(plant.positions - down).max() > 0.1
    assert np.abs(plant.velocities).max() < 0.5


def test_the_box_of_the_demo_policy_is_free_of_the_table():
    plant = Plant()
    half = np.array([0.8, 0.4, 0.4, 0.5, 0.5, 0.6, 0.0])
    rng = np.random.default_rng(0)
    corners = rng.choice([-1.0, 1.0], (12, 7)) * half + HOME
    for corner in corners:
        run(plant, 1.2, corner)
        assert_allclose(plant.positions, corner, atol=5e-3)


def test_the_cubes_lie_on_the_table_apart_from_each_other_for_every_seed():
    for seed in range(10):
        plant = Plant(seed)
        run(plant, 0.5, HOME)
        places = np.array([plant.body_position(cube) for cube in CUBES])
        assert_allclose(places[:, 2], 0.024, atol=2e-3)
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2)[np.triu_indices(3, 1)]
        assert gaps.min() > 0.044 * np.sqrt(2)


def test_the_same_seed_gives_the_same_motion_and_another_one_other_cubes():
    def final(seed):
        plant = Plant(seed)
        run(plant, 0.3, np.array(HOME) + 0.2)
        return plant.snapshot().qpos

    assert_array_equal(final(3), final(3))
    assert np.abs(final(3) - final(4)).max() > 1e-3


def test_a_snapshot_does_not_change_when_the_physics_go_on():
    plant = Plant()
    snapshot = plant.snapshot()
    before = snapshot.qpos.copy()
    run(plant, 0.2, np.array(HOME) + 0.3)
    assert_array_equal(snapshot.qpos, before)
    assert plant.snapshot().time > snapshot.time


def test_a_reset_begins_as_a_new_plant_does_whatever_was_before():
    used = Plant(1)
    run(used, 0.5, np.array(HOME) + 0.4)
    used.reset(7)
    new = Plant(7)
    assert used.time == 0.0
    assert_array_equal(used.snapshot().qpos, new.snapshot().qpos)
    for plant in (used, new):
        run(plant, 0.3, np.array(HOME) - 0.2)
    assert_array_equal(used.snapshot().qpos, new.snapshot().qpos)


def test_a_reset_does_not_load_the_model_again():
    plant = Plant()
    model = plant.model
    plant.reset(3, spread)
    assert plant.model is model


def test_a_start_near_home_is_the_start_of_the_demo():
    plant, start = Plant(4), near_home(np.random.default_rng(4))
    assert_allclose(plant.positions, HOME)
    for cube, place in zip(CUBES, start.cubes, strict=True):
        assert_allclose(plant.body_position(cube)[:2], [place.x, place.y])


def test_spread_starts_touch_nothing_and_stay_where_they_are():
    plant = Plant()
    for seed in range(20):
        plant.reset(seed, spread)
        start = plant.state()
        run(plant, 0.3, start.joints)
        after = plant.state()
        assert not after.touched
        assert_allclose(after.joints, start.joints, atol=2e-3)
        assert_allclose(after.cubes, start.cubes, atol=1e-3)


def test_contacts_name_the_bodies_that_touch():
    plant = Plant()
    run(plant, 0.2, HOME)
    assert {("red_cube", "world"), ("blue_cube", "world")} <= plant.contacts()
    assert not any("finger" in name for pair in plant.contacts() for name in pair)


def test_a_cube_between_closed_fingers_is_gripped_and_one_under_them_is_touched():
    from sim_robot.kinematics import Pose, joints_for
    from sim_robot.starts import CubePlace, Start

    cubes = (CubePlace(0.33, 0.0, 0.0), CubePlace(0.33, 0.15, 0.0), CubePlace(0.42, -0.1, 0.0))
    around = (*joints_for(Pose((0.33, 0.0, 0.025))), 0.0)
    plant = Plant()
    plant.place(Start(around, cubes))
    assert plant.state().gripped == frozenset()
    run(plant, 1.0, [*around[:-1], 1.0])
    assert plant.state().gripped == {"red_cube"}

    above = (*joints_for(Pose((0.33, 0.15, 0.08))), 1.0)
    plant.place(Start(above, cubes))
    run(plant, 0.5, [*joints_for(Pose((0.33, 0.15, 0.05))), 1.0])
    assert plant.state().touched == {"green_cube"}

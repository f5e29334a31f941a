"""Pixels are where the renderer draws, and patches are where the pixels are."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flash_transport import resize_with_pad
from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend
from sim_robot.plant import Plant
from sim_robot.projection import CameraView, letterboxed, patch_of
from sim_robot.robot import CAMERAS, CUBES

STRAIGHT = CameraView(np.zeros(3), np.eye(3), np.pi / 2, 101, 101)


def test_a_point_on_the_axis_is_in_the_middle_and_one_behind_is_in_no_picture():
    points = np.array([[0, 0, -2.0], [0, 0, 2.0], [0.99, 0, -1.0], [1.01, 0, -1.0]])
    pixels, depth = STRAIGHT.pixels_of(points)
    assert_allclose(pixels[0], [50, 50])
    assert_allclose(depth, [2, -2, 1, 1])
    assert_array_equal(STRAIGHT.is_inside(pixels, depth), [True, False, True, False])


def test_up_in_the_world_is_up_in_the_picture():
    pixels, _ = STRAIGHT.pixels_of(np.array([[0.5, 0.5, -1.0]]))
    assert pixels[0, 0] > 50 > pixels[0, 1]


def test_patches_are_numbered_row_by_row():
    pixels = np.array([[0.0, 0.0], [27.4, 0.0], [27.6, 0.0], [0.0, 28.0], [111.4, 111.4]])
    assert_array_equal(patch_of(pixels, 112, 28), [0, 0, 1, 4, 15])
    assert_array_equal(patch_of(np.array([[-0.6, 3.0], [3.0, 111.6]]), 112, 28), [-1, -1])


@pytest.mark.parametrize(("width", "height"), [(320, 240), (240, 320), (224, 224)])
def test_a_dot_is_letterboxed_to_where_the_transport_puts_it(width, height):
    picture = np.zeros((height, width, 3), np.uint8)
    x, y = width * 3 // 4, height // 4
    picture[y - 3 : y + 4, x - 3 : x + 4] = 255
    small = np.asarray(resize_with_pad(picture, 112, 112)).astype(float).sum(axis=2)
    rows, columns = np.mgrid[:112, :112]
    middle = [(small * columns).sum() / small.sum(), (small * rows).sum() / small.sum()]
    assert_allclose(letterboxed(np.array([[x, y]]), width, height, 112)[0], middle, atol=0.1)


def test_every_visible_cube_is_drawn_where_it_is_projected():
    try:
        os.environ["MUJOCO_GL"] = choose_gl_backend()
    except RenderingUnavailableError as error:
        pytest.skip(f"no OpenGL on this machine: {error}")
    from sim_robot.cameras import Cameras
    from sim_robot.starts import spread

    plant = Plant()
    seen = 0
    with Cameras(plant.model) as cameras:
        for seed in range(5):
            plant.reset(seed, spread)
            images = cameras.render(plant.snapshot())
            for camera in CAMERAS:
                view = plant.camera_view(camera, 320, 240)
                pixels, depth = view.pixels_of(np.array(plant.state().cubes))
                inside = view.is_inside(pixels, depth)
                for index, cube in enumerate(CUBES):
                    if not inside[index] or plant.visible_share(camera, cube) < 1.0:
                        continue
                    x, y = np.round(pixels[index]).astype(int)
                    colour = images[camera][y, x].astype(int)
                    assert colour.argmax() == index, (seed, camera, cube, colour)
                    seen += 1
    assert seen > 15


def test_a_cube_behind_the_hand_is_less_visible_than_one_in_the_open():
    from sim_robot.kinematics import Pose, joints_for
    from sim_robot.starts import CubePlace, Start

    plant = Plant()
    cubes = (CubePlace(0.33, 0.0, 0.0), CubePlace(0.40, 0.15, 0.0), CubePlace(0.27, -0.15, 0.0))
    plant.place(Start((*joints_for(Pose((0.33, 0.0, 0.025))), 0.0), cubes))
    assert plant.visible_share("scene", "green_cube") == 1.0
    assert plant.visible_share("scene", "red_cube") < 1.0

"""The simulated cameras show the scene, and say what to install when they cannot."""

from __future__ import annotations

import os
import queue
import threading

import numpy as np
import pytest

from sim_robot.camera_worker import CameraWorker
from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend
from sim_robot.plant import Plant
from sim_robot.robot import CAMERAS, HOME

try:
    BACKEND = choose_gl_backend()
except RenderingUnavailableError as error:
    pytest.skip(f"no OpenGL on this machine: {error}", allow_module_level=True)
os.environ["MUJOCO_GL"] = BACKEND


@pytest.fixture(scope="module")
def cameras():
    from sim_robot.cameras import Cameras

    with Cameras(Plant().model) as opened:
        yield opened


def coloured_shares(image):
    """Return the share of pixels that are clearly red, green and blue."""
    channels = image.astype(int)
    others = np.stack([np.delete(channels, i, axis=-1).max(axis=-1) for i in range(3)], axis=-1)
    return (channels - others > 60).mean(axis=(0, 1))


def test_every_camera_gives_a_picture_of_the_size_that_was_asked_for(cameras):
    images = cameras.render(Plant().snapshot())
    assert tuple(images) == CAMERAS
    for image in images.values():
        assert image.shape == (240, 320, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.std() > 20
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def test_the_wrist_camera_sees_all_three_cubes_at_home(cameras):
    for seed in range(5):
        shares = coloured_shares(cameras.render(Plant(seed).snapshot())["wrist"])
        # a cube of 44 mm is about 26 pixels wide: 0.9 % of the picture
        assert shares.min() > 0.005


def test_the_scene_camera_sees_the_arm_move(cameras):
    plant = Plant()
    before = cameras.render(plant.snapshot())["scene"].astype(int)
    target = np.array(HOME)
    target[0] = 0.6
    for _ in range(500):
        plant.command(target, np.zeros(7))
        plant.step()
    after = cameras.render(plant.snapshot())["scene"].astype(int)
    moved = np.abs(after - before).max(axis=-1) > 30
    assert 0.01 < moved.mean() < 0.5


def test_the_picture_is_the_right_way_up(cameras):
    scene = cameras.render(Plant().snapshot())["scene"].astype(float)
    sky, table = scene[5, 280], scene[-40, 160]
    assert sky[2] > sky[0]  # blue above
    assert table.sum() < sky.sum()  # the dark mat below


def test_pictures_are_not_overwritten_by_the_next_ones(cameras):
    plant = Plant()
    first = cameras.render(plant.snapshot())
    kept = {name: image.copy() for name, image in first.items()}
    for _ in range(200):
        plant.command(np.array(HOME) + 0.3, np.zeros(7))
        plant.step()
    cameras.render(plant.snapshot())
    for name, image in first.items():
        np.testing.assert_array_equal(image, kept[name])


def test_the_worker_draws_what_it_is_given_and_stops():
    plant = Plant()
    drawn = queue.Queue()
    worker = CameraWorker(plant.model, lambda time, images: drawn.put((time, images)))
    worker.start()
    for _ in range(10):
        plant.step()
    worker.draw(plant.snapshot())
    time, images = drawn.get(timeout=60)
    worker.stop()
    assert time == pytest.approx(plant.time)
    assert set(images) == set(CAMERAS)
    assert drawn.empty()


def test_an_error_while_publishing_reaches_the_owner():
    reached = threading.Event()

    def fail(time, images):
        reached.set()
        raise RuntimeError("publisher is gone")

    plant = Plant()
    worker = CameraWorker(plant.model, fail)
    worker.start()
    worker.draw(plant.snapshot())
    assert reached.wait(60)
    worker.stop()
    with pytest.raises(RuntimeError, match="publisher is gone"):
        worker.check()


def test_a_backend_that_needs_a_screen_is_refused():
    with pytest.raises(
        RenderingUnavailableError, match="MUJOCO_GL=glfw cannot draw without a screen"
    ):
        choose_gl_backend({**os.environ, "MUJOCO_GL": "glfw"})


def test_when_nothing_can_draw_the_error_names_each_failure_and_the_packages(tmp_path):
    # no EGL vendor, no OSMesa: what a bare server image looks like
    bare = {
        **os.environ,
        "MUJOCO_GL": "egl",
        "__EGL_VENDOR_LIBRARY_DIRS": str(tmp_path),
        "LIBGL_DRIVERS_PATH": str(tmp_path),
    }
    with pytest.raises(RenderingUnavailableError) as caught:
        choose_gl_backend(bare)
    message = str(caught.value)
    assert "(egl: " in message
    assert "sudo apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0" in message

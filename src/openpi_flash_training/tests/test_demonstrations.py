"""`openpi-flash demonstrations` writes a dataset that can be read, and the same one each time."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.demonstrations import generate as generating
from openpi_flash_training.demonstrations.generate import generate
from openpi_flash_training.demonstrations.plans import DatasetPlan
from openpi_flash_training.episodes.error import DataError
from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend
from sim_robot.robot import CUBES

try:
    choose_gl_backend()
except RenderingUnavailableError as error:
    pytest.skip(f"no OpenGL on this machine: {error}", allow_module_level=True)

SMALL = DatasetPlan(("touch", "pick"), episodes=4, seed=2, image_size=56, horizon=4, seconds=1.0)


def everything(folder):
    dataset = Dataset.open(folder)
    return {
        f"{episode.index} {name}": values
        for episode in dataset.episodes
        for name, values in {
            **dataset.numbers(episode.index),
            **{
                camera: dataset.images(episode.index, camera, range(episode.length))
                for camera in dataset.cameras
            },
        }.items()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demonstrations") / "one"
    generate(SMALL, folder)
    return folder


def test_a_dataset_has_pictures_labels_and_the_prompt_of_each_episode(written):
    dataset = Dataset.open(written)
    assert (dataset.fps, dataset.robot_type, len(dataset.episodes)) == (10, "sim_arm", 4)
    assert [episode.tasks for episode in dataset.episodes] == [
        ("touch the red cube",),
        ("touch the green cube",),
        ("touch the blue cube",),
        ("pick up the red cube",),
    ]
    assert [episode.facts["cube"] for episode in dataset.episodes] == [*CUBES, CUBES[0]]
    numbers = dataset.numbers(0)
    assert numbers["label.chunks"].shape == (10, 3, 4, 7)
    assert numbers["label.cube_pixels"].shape == (10, 2, 3, 2)
    assert_allclose(numbers["label.cube_positions"][:, :, 2], 0.024, atol=0.01)
    # the scene camera shows all cubes, and at its pixels each has its colour
    picture = dataset.images(0, "observation.images.scene", [0])[0].astype(int)
    for index in range(3):
        assert numbers["label.cube_visible"][0, 0, index] > 0
        x, y = np.round(numbers["label.cube_pixels"][0, 0, index]).astype(int)
        assert picture[y, x].argmax() == index


def test_workers_and_a_resumed_run_do_not_change_the_dataset(written, tmp_path):
    generate(DatasetPlan(("touch", "pick"), 2, 2, 10, 4, 56, seconds=1.0), tmp_path / "two")
    generate(SMALL, tmp_path / "two", workers=2, resume=True)
    expected, found = everything(written), everything(tmp_path / "two")
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert_array_equal(found[name], values, err_msg=name)


def play_until_killed(plan):
    if plan.task == "pick":
        os.kill(os.getpid(), signal.SIGKILL)
    return generating._play(plan)


def test_a_run_whose_worker_was_killed_says_so_and_can_be_resumed(written, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(generating, "_play", play_until_killed)
        with pytest.raises(DataError, match="a process that played was killed; go on by --resume"):
            generate(SMALL, tmp_path / "set")
    generate(SMALL, tmp_path / "set", resume=True)
    assert list(everything(tmp_path / "set")) == list(everything(written))


def test_a_folder_that_holds_a_dataset_is_not_overwritten(written):
    with pytest.raises(DataError, match="choose another folder"):
        generate(SMALL, written)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fps": 5}, "--fps was 10 when it was begun, and is 5 now"),
        ({"horizon": 6}, "--horizon was 4 when it was begun, and is 6 now"),
        ({"image_size": 64}, "--image-size was 56 when it was begun, and is 64 now"),
        ({"seed": 3}, "--seed was 2 when it was begun, and is 3 now"),
        ({"tasks": ("place",)}, "--task was touch when it was begun, and is place now"),
        ({"seconds": None}, "--seconds was 1.0 when it was begun, and is 4.0 now"),
        ({"noise": None}, "--no-noise was absent when it was begun, and is given now"),
    ],
)
def test_a_dataset_that_was_begun_with_other_options_is_left_as_it_is(written, changed, message):
    with pytest.raises(DataError, match=message):
        generate(replace(SMALL, episodes=6, **changed), written, resume=True)
    assert len(Dataset.open(written).episodes) == 4


def test_a_dataset_of_something_else_is_no_begun_one(tmp_path):
    with DatasetWriter(tmp_path / "x", 10, {"x": Feature("float32", (1,))}) as writer:
        writer.add_episode("t", {"x": [1.0, 2.0]})
    with pytest.raises(DataError, match="is none of demonstrations: it lacks observation.images"):
        generate(SMALL, tmp_path / "x", resume=True)

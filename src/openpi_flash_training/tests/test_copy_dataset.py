"""Copying LeRobot datasets: versions, rates, appending."""

from __future__ import annotations

import numpy as np
from test_dataset import CAMERA, FEATURES, WRIST, episode, picture, write
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.writer import DatasetWriter


def run(*arguments: object):
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def test_every_column_survives_a_copy_to_v21_and_back(tmp_path):
    source = write(tmp_path / "set")
    old, new = tmp_path / "old", tmp_path / "new"
    result = run("convert", source, old, "--version", "v2.1", "--no-lint")
    assert result.exit_code == 0, result.output
    assert Dataset.open(old).info.version == "v2.1"
    assert run("convert", old, new, "--no-lint").exit_code == 0
    data = Dataset.open(new)
    assert data.info.version == "v3.0"
    assert data.robot_type == "sim_arm"
    assert {k: f.shape for k, f in data.features.items()} == {
        k: f.shape for k, f in FEATURES.items()
    }
    for i, length in enumerate([7, 4, 9]):
        wanted = episode(length, 10 * i)
        numbers = data.numbers(i)
        for key, values in wanted["numbers"].items():
            np.testing.assert_array_equal(numbers[key], values.reshape(numbers[key].shape))
        assert data.texts(i)["subtask"] == tuple(wanted["texts"]["subtask"])
        last = data.images(i, CAMERA, [length - 1])[0].astype(int)
        assert abs(last - picture(10 * i + length - 1, 64, 48)).max() <= 5
    assert [e.tasks for e in data.episodes] == [("pick",), ("place",), ("pick",)]


def test_another_rate_takes_the_newest_frames(tmp_path):
    with DatasetWriter(tmp_path / "set", 30, {"x": Feature("float32", (1,))}) as writer:
        writer.add_episode("t", {"x": np.arange(31)})
    options = ("--no-lint", "--fps")
    assert run("convert", tmp_path / "set", tmp_path / "slow", *options, 10).exit_code == 0
    slow = Dataset.open(tmp_path / "slow")
    assert slow.numbers(0)["x"][:, 0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert run("convert", tmp_path / "set", tmp_path / "fast", *options, 45).exit_code == 0
    fast = Dataset.open(tmp_path / "fast")
    assert fast.numbers(0)["x"][:7, 0].tolist() == [0, 0, 1, 2, 2, 3, 4]


def test_append_adds_one_dataset_to_another(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", [5])
    result = run("append", second, first, "--no-lint")
    # one camera of the source is stored as images, all of a dataset's new ones as videos
    assert result.exit_code == 1
    assert f"has {WRIST}" in result.output
    features = {"x": Feature("float32", (1,))}
    for name in ("c", "d"):
        with DatasetWriter(tmp_path / name, 10, features) as writer:
            writer.add_episode(f"task {name}", {"x": [1.0, 2, 3]})
    assert run("append", tmp_path / "d", tmp_path / "c", "--no-lint").exit_code == 0
    data = Dataset.open(tmp_path / "c")
    assert data.tasks == ("task c", "task d")
    assert data.frames == 6
    result = run("append", tmp_path / "d", tmp_path / "c", "--no-lint")
    assert "episode 0: left out: is in the dataset already" in result.output
    assert Dataset.open(tmp_path / "c").frames == 6

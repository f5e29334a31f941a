"""Copying LeRobot datasets: versions, rates, appending."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from test_dataset import CAMERA, FEATURES, FPS, WRIST, episode, picture, write
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.png import is_rgb_png
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.video_file import VideoSettings
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
    assert run("convert", tmp_path / "set", tmp_path / "same", "--no-lint").exit_code == 0
    assert Dataset.open(tmp_path / "same").fps == 30
    fast = Dataset.open(tmp_path / "fast")
    assert fast.numbers(0)["x"][:7, 0].tolist() == [0, 0, 1, 2, 2, 3, 4]


def test_append_adds_one_dataset_to_another(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", [5])
    result = run("append", second, first, "--no-lint")
    # one camera of the source is stored as images, all of a dataset's new ones as videos
    assert result.exit_code == 1
    assert f"has {WRIST}" in result.output
    assert Dataset.open(first).frames == 20
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


def test_columns_that_the_dataset_lacks_are_left_out_and_those_that_it_has_are_not(tmp_path):
    more = {"x": Feature("float32", (1,)), "words": Feature("string", (1,))}
    for name, features in (("few", {"x": more["x"]}), ("many", more)):
        with DatasetWriter(tmp_path / name, 10, features) as writer:
            words = {"words": ["a", "b"]} if name == "many" else {}
            writer.add_episode(name, {"x": [1.0, 2]}, texts=words)
    assert run("append", tmp_path / "many", tmp_path / "few", "--no-lint").exit_code == 0
    data = Dataset.open(tmp_path / "few")
    assert (list(data.features), data.frames) == (["x"], 4)
    result = run("append", tmp_path / "few", tmp_path / "many", "--no-lint")
    assert result.exit_code == 1
    assert "has words as None" in result.output


def test_videos_are_copied_bit_for_bit(tmp_path):
    """Copies of copies show what the first one showed, also after another encoder's episodes."""
    features = {CAMERA: FEATURES[CAMERA]}
    rng = np.random.default_rng(0)
    for name, settings in (
        ("h264", VideoSettings()),
        ("av1", VideoSettings("libsvtav1", 30, 2, "12")),
        ("slow", VideoSettings(keyframe_interval=7, preset="slow")),
    ):
        with DatasetWriter(tmp_path / name, FPS, features, video=settings) as writer:
            for length in (9, 5):
                frames = rng.integers(0, 255, (length, 64, 48, 3), dtype=np.uint8)
                writer.add_episode(name, {}, {CAMERA: frames})
    out = tmp_path / "out"
    options = ("--no-lint", "--version", "v2.1", "--fps", FPS)
    assert run("convert", tmp_path / "h264", tmp_path / "old", *options).exit_code == 0
    result = run("convert", tmp_path / "old", out, "--no-lint", "--fps", FPS)
    assert result.exit_code == 0, result.output
    for name in ("av1", "slow"):
        result = run("append", tmp_path / name, out, "--no-lint")
        assert result.exit_code == 0, result.output
    data = Dataset.open(out)
    assert [e.tasks[0] for e in data.episodes] == ["h264"] * 2 + ["av1"] * 2 + ["slow"] * 2
    for i, copied in enumerate(data.episodes):
        source = Dataset.open(tmp_path / copied.tasks[0])
        frames = range(copied.length)
        np.testing.assert_array_equal(
            data.images(i, CAMERA, frames),
            source.images(i % 2, CAMERA, frames),
            err_msg=str(i),
        )


def test_a_video_that_cannot_be_cut_is_encoded_anew(tmp_path):
    """Two episodes in one stream, the second without a keyframe at its start."""
    from openpi_flash_training.dataset.video_file import copy_video, encode_video

    frames = np.stack([picture(0, 64, 48)] * 12)  # no scene change, so one keyframe
    encode_video(tmp_path / "both.mp4", frames, FPS, VideoSettings(keyframe_interval=250))
    assert copy_video(tmp_path / "both.mp4", 0.0, 6, FPS, tmp_path / "first.mp4")
    assert not copy_video(tmp_path / "both.mp4", 6 / FPS, 6, FPS, tmp_path / "second.mp4")
    assert not copy_video(tmp_path / "both.mp4", 0.0, 13, FPS, tmp_path / "long.mp4")


def marked(folder, *episodes, **facts):
    """A dataset at 10 Hz with `intervention`: a letter for each frame, p where a person had it."""
    features = {"x": Feature("float32", (1,)), "intervention": Feature("int64", (1,))}
    with DatasetWriter(folder, 10, features) as writer:
        for letters in episodes:
            by_person = [letter == "p" for letter in letters]
            numbers = {"x": np.arange(len(letters)), "intervention": by_person}
            writer.add_episode("t", numbers, facts=facts)
    return folder


def values(folder):
    data = Dataset.open(folder)
    return [data.numbers(e.index)["x"][:, 0].astype(int).tolist() for e in data.episodes]


def stored_files(folder):
    data = Dataset.open(folder)
    return [file for row in data.episodes for file in data.image_files(row.index, WRIST)]


def test_png_files_are_copied_byte_for_byte(tmp_path, monkeypatch):
    features = {"x": Feature("float32", (1,)), WRIST: Feature("image", (8, 12, 3))}
    images = np.stack([np.full((8, 12, 3), 10 * i, np.uint8) for i in range(5)])
    # a file that only its author would have written
    monkeypatch.setattr("openpi_flash_training.dataset.png.COMPRESS_LEVEL", 0)
    with DatasetWriter(tmp_path / "set", 10, features) as writer:
        writer.add_episode("t", {"x": np.arange(5)}, {WRIST: images})
    monkeypatch.undo()
    for name, options, are_same in (("copy", (), True), ("slow", ("--fps", 5), False)):
        out = tmp_path / name
        assert run("convert", tmp_path / "set", out, "--png", "--no-lint", *options).exit_code == 0
        before = stored_files(tmp_path / "set")[:: 1 if are_same else 2]
        assert (stored_files(out) == before) is are_same
        taken = images[:: 1 if are_same else 2]
        np.testing.assert_array_equal(Dataset.open(out).images(0, WRIST, range(len(taken))), taken)


def test_a_png_of_another_kind_is_encoded_anew_and_a_broken_one_refused(tmp_path, monkeypatch):
    features = {"x": Feature("float32", (1,)), WRIST: Feature("image", (8, 12, 3))}
    grey = np.random.default_rng(0).integers(0, 256, (8, 12), np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "png")
    kept = file.getvalue()
    for name, content in (("grey", kept), ("broken", kept[:40])):
        with monkeypatch.context() as patch:
            patch.setattr(
                "openpi_flash_training.dataset.staged_images.encode_png", lambda _, c=content: c
            )
            with DatasetWriter(tmp_path / name, 10, features) as writer:
                images = np.zeros((2, 8, 12, 3), np.uint8)
                writer.add_episode("t", {"x": np.arange(2)}, {WRIST: images})
    assert run("convert", tmp_path / "grey", tmp_path / "copy", "--png", "--no-lint").exit_code == 0
    assert all(is_rgb_png(file) for file in stored_files(tmp_path / "copy"))
    found = Dataset.open(tmp_path / "copy").images(0, WRIST, [1])[0]
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, axis=2))
    result = run("convert", tmp_path / "broken", tmp_path / "none", "--png", "--no-lint")
    assert result.exit_code == 1
    assert f"{WRIST} at frame 0 is not an image" in result.output
    assert not (tmp_path / "none").exists()


def test_of_interventions_alone_each_long_one_becomes_an_episode(tmp_path):
    source = marked(tmp_path / "set", "ppp..pppp.p", "......", "..ppp")
    options = ("--only-interventions", "--min-length", "0.3", "--no-lint")
    result = run("convert", source, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert values(tmp_path / "out") == [[0, 1, 2], [5, 6, 7, 8], [2, 3, 4]]
    assert "episode 0: 3 + 4 frames, 4 left out" in result.output
    assert "episode 1: left out: has no intervention that is long enough" in result.output
    facts = [episode.facts["pieces"] for episode in Dataset.open(tmp_path / "out").episodes]
    assert facts == [2, 2, 1]
    result = run("append", source, tmp_path / "out", *options)
    assert result.output.count("is in the dataset already") == 2
    assert len(values(tmp_path / "out")) == 3
    # at another rate, and with the usual second
    long = marked(tmp_path / "long", "." * 7 + "p" * 20 + ".." + "p" * 9)
    options = ("--only-interventions", "--fps", 5, "--no-lint")
    assert run("convert", long, tmp_path / "slow", *options).exit_code == 0
    assert values(tmp_path / "slow") == [[8, 10, 12, 14, 16, 18, 20, 22, 24, 26]]


def test_a_dataset_that_does_not_tell_interventions_is_refused(tmp_path):
    source = write(tmp_path / "set")
    result = run("convert", source, tmp_path / "out", "--only-interventions")
    assert result.exit_code == 1
    assert f"error: {source}: has no column intervention of one number" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "facts", "why"),
    [
        ("--only-successes", {"success": False}, "episode 0: left out: it failed"),
        ("--only-interventions", {}, "left out: has no intervention that is long enough"),
    ],
)
def test_a_copy_without_an_episode_is_not_written(tmp_path, option, facts, why):
    source, out = marked(tmp_path / "set", "....", **facts), tmp_path / "out"
    result = run("convert", source, out, option)
    assert result.exit_code == 1
    assert why in result.output
    assert f"error: {out}: was not written: no episode of {source} was taken" in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--image-size", 32),
        ("--flip-grip",),
        ("--actions", "measured"),
        ("--max-gap", 1),
        ("--min-length", 1),
        ("--codec", "ee"),
        ("--topic", "prompt=/p"),
        ("--node-file", "node.yaml"),
        ("--robot-file", "robot.yaml"),
    ],
    ids=lambda options: options[0],
)
def test_an_option_that_says_nothing_about_a_dataset_is_refused(tmp_path, options):
    source = marked(tmp_path / "set", "....")
    result = run("convert", source, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert options[0] in result.output
    assert "not with a LeRobot dataset" in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists()

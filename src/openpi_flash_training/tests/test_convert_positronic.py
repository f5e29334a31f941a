"""Positronic's native recordings through its six codecs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.dataset.reader import Dataset

SECOND = 1_000_000_000
LEFT, SIDE = "observation.images.left", "observation.images.side"


def run(*arguments: object):
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def write_signal(folder: Path, name: str, hz: float, values, seconds: float = 3.0) -> None:
    times = (np.arange(int(seconds * hz) + 1) * SECOND / hz).round().astype(np.int64)
    rows = [values(t / SECOND) for t in times.tolist()]
    columns = {"timestamp": times, "value": rows, "ts_ns.message": times}
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def write_video(folder: Path, name: str, hz: float, seconds: float = 3.0) -> None:
    count = int(seconds * hz) + 1
    with av.open(str(folder / f"{name}.mp4"), "w") as output:
        stream = output.add_stream("h264", rate=100)  # nominal: frame numbers, no times
        stream.width, stream.height, stream.pix_fmt = 320, 168, "yuv420p"
        for i in range(count):
            image = np.full((168, 320, 3), 20 + 4 * i, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    times = (np.arange(count) * SECOND / hz).round().astype(np.int64)
    pq.write_table(pa.table({"ts_ns": times}), folder / f"{name}.frames.parquet")


def write_episode(
    root: Path,
    number: int = 0,
    *,
    task: str | None = "stack",
    commands: str = "robot_commands",
    outcome: str | None = "Success",
) -> Path:
    folder = root / f"{number // 1000:012d}/{number % 1000:012d}"
    folder.mkdir(parents=True)
    pose = lambda t: [t, 2 * t, 3 * t, 1.0, 0.0, 0.0, 0.0]  # noqa: E731
    write_signal(folder, "robot_state.ee_pose", 100, pose)
    write_signal(folder, "robot_state.q", 100, lambda t: [t * (i + 1) for i in range(7)])
    write_signal(folder, "grip", 50, lambda t: float(t > 1.5) * 0.8)
    write_signal(folder, f"{commands}.pose", 15, lambda t: [x + 10 for x in pose(t)])
    write_signal(folder, "target_grip", 15, lambda t: float(t > 1.4))
    write_signal(folder, "robot_state.error", 10, lambda t: "none")
    for camera in ("image.wrist", "image.exterior"):
        write_video(folder, camera, 15)
    static = {"eval.outcome": outcome, "task": task}
    given = {name: value for name, value in static.items() if value is not None}
    (folder / "static.json").write_text(json.dumps(given))
    (folder / "meta.json").write_text(json.dumps({"schema_version": 1}))
    return folder


def convert(source: Path, out: Path, codec: str, *options: object) -> Dataset:
    result = run("convert", source, out, "--codec", codec, "--no-lint", "--png", *options)
    assert result.exit_code == 0, result.output
    return Dataset.open(out)


SIZES = {"ee": 8, "ee_joints": 15, "ee_traj": 8, "ee_joints_traj": 15, "joints_traj": 8, "droid": 8}


@pytest.mark.parametrize("codec", SIZES)
def test_each_codec_has_its_columns(tmp_path, codec):
    write_episode(tmp_path / "rec")
    data = convert(tmp_path / "rec", tmp_path / "set", codec)
    assert data.fps == 15
    assert data.tasks == ("stack",)
    numbers = data.numbers(0)
    assert numbers["observation.state"].shape == (46, SIZES[codec])
    assert numbers["action"].shape == (46, 8)
    assert data.episodes[0].facts["recorded.eval.outcome"] == "Success"
    cameras = {LEFT, SIDE} if codec != "droid" else set(data.cameras)
    assert set(data.cameras) == cameras
    for camera in cameras:
        images = data.images(0, camera, [0, 20, 45])
        assert images.shape == (3, 224, 224, 3)
        # 168 x 320 fits into 118 rows, and its times are those of the parquet file
        assert images[:, :50].max() == 0
        assert abs(images[:, 112, 112, 0].astype(int) - [20, 100, 200]).max() <= 3


def test_commands_and_measurements_are_told_apart(tmp_path):
    write_episode(tmp_path / "rec")
    t = np.arange(46) / 15
    sampled = np.floor(t * 100 + 0.1) / 100
    ee = convert(tmp_path / "rec", tmp_path / "ee", "ee").numbers(0)
    np.testing.assert_allclose(ee["observation.state"][:, 1], 2 * sampled, atol=1e-5)
    np.testing.assert_allclose(ee["observation.state"][:, 3], 1)
    np.testing.assert_allclose(ee["action"][:, 1], 2 * t + 10, atol=1e-5)
    assert ee["observation.state"][-1, 7] == pytest.approx(0.8)
    assert ee["action"][:, 7].tolist() == (t > 1.4).tolist()
    joints = convert(tmp_path / "rec", tmp_path / "joints", "joints_traj").numbers(0)
    np.testing.assert_allclose(joints["action"][:, 6], 7 * sampled, atol=1e-5)
    # the grip is binary in a _traj codec, in state and action
    assert set(joints["action"][:, 7]) == set(joints["observation.state"][:, 7]) == {0, 1}
    both = convert(tmp_path / "rec", tmp_path / "both", "ee_joints_traj").numbers(0)
    np.testing.assert_allclose(both["observation.state"][:, 14], 7 * sampled, atol=1e-5)
    assert set(both["observation.state"][:, 7]) == {0, 1}
    droid = convert(tmp_path / "rec", tmp_path / "droid", "droid").numbers(0)
    # 1 rad/s of the first joint is a third of DROID's greatest
    assert droid["action"][:-1, 0].mean() == pytest.approx(1 / 3, rel=0.02)


def test_only_what_the_console_calls_a_success_is_kept(tmp_path):
    for number, outcome in enumerate(("Success", "Stalled", None)):
        write_episode(tmp_path / "rec", number, task=f"task {number}", outcome=outcome)
    options = ("--codec", "ee", "--no-lint", "--only-successes")
    result = run("convert", tmp_path / "rec", tmp_path / "set", *options)
    assert result.exit_code == 0, result.output
    data = Dataset.open(tmp_path / "set")
    assert data.tasks == ("task 0",)
    assert data.episodes[0].facts["recorded.success"] is True
    assert "000000000001: left out: it failed" in result.output
    assert "000000000002: left out: nobody has marked it as a success" in result.output


def test_the_newer_name_of_commands_is_read(tmp_path):
    write_episode(tmp_path / "rec", commands="robot_command")
    assert convert(tmp_path / "rec", tmp_path / "set", "ee").numbers(0)["action"][0, 0] == 10


def test_a_grip_that_is_1_for_open_is_flipped(tmp_path):
    write_episode(tmp_path / "rec")
    numbers = convert(tmp_path / "rec", tmp_path / "set", "ee", "--flip-grip").numbers(0)
    assert numbers["observation.state"][0, 7] == 1
    assert numbers["observation.state"][-1, 7] == pytest.approx(0.2)
    assert numbers["action"][-1, 7] == 0


def test_all_episodes_of_all_blocks_are_read_in_order(tmp_path):
    for number in (0, 1, 1000):
        write_episode(tmp_path / "rec", number, task=f"task {number}")
    data = convert(tmp_path / "rec", tmp_path / "set", "ee")
    assert [e.tasks for e in data.episodes] == [("task 0",), ("task 1",), ("task 1000",)]
    one = convert(tmp_path / "rec/000000000001/000000000000", tmp_path / "one", "ee")
    assert one.tasks == ("task 1000",)


def cut_video(folder: Path) -> None:
    path = folder / "image.wrist.mp4"
    path.write_bytes(path.read_bytes()[:900])


def few_images(folder: Path) -> None:
    write_video(folder, "image.exterior", 15, seconds=1.0)
    times = (np.arange(46) * SECOND / 15).round().astype(np.int64)
    pq.write_table(pa.table({"ts_ns": times}), folder / "image.exterior.frames.parquet")


def unequal_rows(folder: Path) -> None:
    table = pa.table({"timestamp": [0, SECOND], "value": [[1.0, 2.0], [1.0]]})
    pq.write_table(table, folder / "grip.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / ".unfinished").touch(), "000000000001: is unfinished"),
        (lambda f: (f / "grip.parquet").unlink(), "000000000001: lacks grip; it has"),
        (lambda f: (f / "image.wrist.mp4").unlink(), "image.wrist.mp4: is missing"),
        (lambda f: (f / "image.wrist.frames.parquet").unlink(), "lacks the camera image.wrist"),
        (lambda f: (f / "grip.parquet").write_bytes(b"PAR1"), "grip.parquet: is not a parquet"),
        (lambda f: (f / "static.json").write_text("{"), "static.json: is not JSON"),
        (lambda f: (f / "static.json").write_text("{}"), "000000000001: does not say the task"),
        (cut_video, "image.wrist.mp4: is not a video, or a truncated one"),
        (few_images, r"image.exterior.mp4: has 16 images, its times 46: truncated\?"),
        (unequal_rows, "grip.parquet: has rows that are not 2 equal lists"),
    ],
)
def test_a_broken_episode_is_named_and_can_be_left_out(tmp_path, damage, message):
    write_episode(tmp_path / "rec", 0)
    damage(write_episode(tmp_path / "rec", 1))
    result = run("convert", tmp_path / "rec", tmp_path / "set", "--codec", "ee", "--png")
    assert result.exit_code == 1
    assert re.search(message, result.output), result.output
    options = ("--codec", "ee", "--png", "--no-lint", "--skip-bad")
    result = run("convert", tmp_path / "rec", tmp_path / "other", *options)
    assert result.exit_code == 0, result.output
    assert "left out" in result.output
    assert len(Dataset.open(tmp_path / "other").episodes) == 1


def test_a_codec_has_to_be_named(tmp_path):
    write_episode(tmp_path / "rec")
    result = run("convert", tmp_path / "rec", tmp_path / "set", "--codec", "eee")
    assert result.exit_code == 2
    assert "need --codec ee, ee_joints" in " ".join(result.output.split())


def test_a_conversion_that_fails_at_once_leaves_nothing(tmp_path):
    cut_video(write_episode(tmp_path / "rec"))
    result = run("convert", tmp_path / "rec", tmp_path / "set", "--codec", "ee")
    assert result.exit_code == 1
    assert not (tmp_path / "set").exists()
    result = run("convert", tmp_path / "rec", tmp_path / "set", "--codec", "ee", "--skip-bad")
    assert "set: was not written: no recording gave an episode" in result.output
    assert not (tmp_path / "set").exists()


def test_images_are_read_one_by_one():
    from openpi_flash_training.conversion.camera_images import CameraImages
    from openpi_flash_training.episodes.recorded import CameraStream

    alive = 0

    def read(indices):
        nonlocal alive
        for index in indices:
            alive += 1
            assert alive == 1
            yield np.full((4, 6, 3), index, np.uint8)
            alive -= 1

    times = np.arange(10, dtype=np.int64) * SECOND // 10
    frames = np.arange(0, SECOND // 2, SECOND // 20, dtype=np.int64)
    images = CameraImages(CameraStream(times, read), frames, None)
    alive = 0
    assert images.shape == (10, 4, 6, 3)
    assert [int(image[0, 0, 0]) for image in images] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    alive = 0
    assert CameraImages(CameraStream(times, read), frames, (8, 8)).shape == (10, 8, 8, 3)

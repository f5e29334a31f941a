"""Datasets: the layout by hand, reading back what was written, and what goes wrong."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.layout import write_json
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.episodes.error import DataError

FPS = 15
CAMERA = "observation.images.front"
WRIST = "observation.images.wrist"
FEATURES = {
    "observation.state": Feature("float32", (3,), ("a", "b", "grip")),
    "action": Feature("float32", (3,), ("a", "b", "grip")),
    CAMERA: Feature("video", (64, 48, 3)),
    WRIST: Feature("image", (31, 33, 3)),
    "label.box": Feature("float32", (2, 4)),
    "label.seen": Feature("bool", (1,)),
    "subtask": Feature("string", (1,)),
}


def picture(index: int, height: int, width: int) -> np.ndarray:
    """A smooth image whose brightness says its index."""
    image = np.full((height, width, 3), (20, 60, 100), np.uint8)
    image[..., 0] = 10 + 5 * (index % 48)
    return image


def episode(length: int, first: int = 0) -> dict:
    t = np.arange(length, dtype=np.float32)
    state = np.stack([t + first, np.sin(t), t % 2], axis=1)
    return {
        "numbers": {
            "observation.state": state,
            "action": state + 1,
            "label.box": np.arange(length * 8).reshape(length, 2, 4),
            "label.seen": t % 2 == 0,
        },
        "images": {
            CAMERA: np.stack([picture(first + i, 64, 48) for i in range(length)]),
            WRIST: np.stack([picture(first + i, 31, 33) for i in range(length)]),
        },
        "texts": {"subtask": [f"step {i}" for i in range(length)]},
    }


def write(folder: Path, lengths: list[int] = [7, 4, 9]) -> Path:  # noqa: B006
    with DatasetWriter(folder, FPS, FEATURES, "sim_arm") as writer:
        for i, length in enumerate(lengths):
            task = "pick" if i % 2 == 0 else "place"
            writer.add_episode(task, **episode(length, 10 * i), facts={"source": f"run {i}"})
    return folder


def test_layout_is_lerobots_v3(tmp_path):
    folder = write(tmp_path / "set")
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        f"videos/{CAMERA}/chunk-000/file-000.mp4",
    ]
    info = json.loads((folder / "meta/info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "fps": 15,
        "total_episodes": 3,
        "total_frames": 20,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "robot_type": "sim_arm",
        "splits": {"train": "0:3"},
    }
    assert features["action"] == {"dtype": "float32", "shape": [3], "names": ["a", "b", "grip"]}
    assert features["index"] == {"dtype": "int64", "shape": [1], "names": None}
    assert features[CAMERA]["names"] == ["height", "width", "channels"]
    assert features[CAMERA]["info"]["video.codec"] == "h264"
    assert list(features)[-5:] == [
        "timestamp",
        "frame_index",
        "episode_index",
        "index",
        "task_index",
    ]


def test_data_file_has_lerobots_columns(tmp_path):
    folder = write(tmp_path / "set")
    file = pq.ParquetFile(folder / "data/chunk-000/file-000.parquet")
    assert file.num_row_groups == 3
    table = file.read()
    assert CAMERA not in table.column_names
    assert str(table.schema.field("action").type) == "fixed_size_list<element: float>[3]"
    assert str(table.schema.field("label.seen").type) == "bool"
    assert str(table.schema.field("subtask").type) == "string"
    assert str(table.schema.field(WRIST).type) == "struct<bytes: binary, path: string>"
    assert table["label.box"][1].as_py() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert table["index"].to_pylist() == list(range(20))
    assert table["episode_index"].to_pylist() == [0] * 7 + [1] * 4 + [2] * 9
    assert table["task_index"].to_pylist() == [0] * 7 + [1] * 4 + [0] * 9
    assert table["frame_index"].to_pylist() == [*range(7), *range(4), *range(9)]
    np.testing.assert_array_equal(
        table["timestamp"].to_numpy(),
        np.float32([*range(7), *range(4), *range(9)]) / np.float32(15),
    )


def test_episode_table_says_where_each_episode_lies(tmp_path):
    folder = write(tmp_path / "set")
    table = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet", partitioning=None)
    second = table.to_pylist()[1]
    stats = {key: value for key, value in second.items() if key.startswith("stats/")}
    assert {k: v for k, v in second.items() if k not in stats} == {
        "episode_index": 1,
        "tasks": ["place"],
        "length": 4,
        "data/chunk_index": 0,
        "data/file_index": 0,
        "dataset_from_index": 7,
        "dataset_to_index": 11,
        f"videos/{CAMERA}/chunk_index": 0,
        f"videos/{CAMERA}/file_index": 0,
        f"videos/{CAMERA}/from_timestamp": 7 / 15,
        f"videos/{CAMERA}/to_timestamp": 11 / 15,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        "source": "run 1",
    }
    assert stats["stats/observation.state/max"] == [13, np.float32(np.sin(2)), 1]
    assert stats["stats/observation.state/count"] == [4]
    assert np.shape(stats[f"stats/{CAMERA}/mean"]) == (3, 1, 1)
    assert stats[f"stats/{CAMERA}/min"][1][0][0] == 60 / 255
    assert not [key for key in stats if key.startswith("stats/subtask")]


def test_stats_of_the_dataset_are_those_of_all_frames(tmp_path):
    folder = write(tmp_path / "set")
    stats = json.loads((folder / "meta/stats.json").read_text())
    state = np.concatenate(
        [episode(n, f)["numbers"]["observation.state"] for n, f in [(7, 0), (4, 10), (9, 20)]]
    )
    np.testing.assert_allclose(stats["observation.state"]["mean"], state.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["std"], state.std(0), rtol=1e-6)
    assert stats["observation.state"]["count"] == [20]
    assert {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"} == set(
        stats["index"]
    )


def test_tasks_are_the_index_of_a_pandas_table(tmp_path):
    folder = write(tmp_path / "set")
    table = pq.read_table(folder / "meta/tasks.parquet")
    assert table.to_pydict() == {"task_index": [0, 1], "task": ["pick", "place"]}
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_reads_back_what_was_written(tmp_path):
    data = Dataset.open(write(tmp_path / "set"))
    assert (data.fps, data.robot_type, data.frames) == (15, "sim_arm", 20)
    assert data.features == FEATURES
    assert data.cameras == (CAMERA, WRIST)
    assert [(e.index, e.length, e.tasks, e.facts) for e in data.episodes] == [
        (0, 7, ("pick",), {"source": "run 0"}),
        (1, 4, ("place",), {"source": "run 1"}),
        (2, 9, ("pick",), {"source": "run 2"}),
    ]
    for i, length in enumerate([7, 4, 9]):
        wanted = episode(length, 10 * i)
        numbers = data.numbers(i)
        assert set(numbers) == set(wanted["numbers"])
        for key, values in wanted["numbers"].items():
            got = numbers[key]
            assert got.dtype == FEATURES[key].dtype
            np.testing.assert_array_equal(got, values.reshape(got.shape))
        assert data.texts(i) == {"subtask": tuple(wanted["texts"]["subtask"])}
        assert data.prompts(i) == data.episodes[i].tasks * length
        np.testing.assert_array_equal(data.images(i, WRIST, range(length)), wanted["images"][WRIST])
        video = data.images(i, CAMERA, range(length)).astype(int)
        assert abs(video - wanted["images"][CAMERA]).max() <= 3


@pytest.mark.parametrize("keyframes", [1, 2, 250])
def test_images_at_random_are_those_asked_for(tmp_path, keyframes):
    from openpi_flash_training.dataset.video_file import VideoSettings

    features = {CAMERA: FEATURES[CAMERA]}
    settings = VideoSettings(keyframe_interval=keyframes)
    with DatasetWriter(tmp_path / "set", FPS, features, video=settings) as writer:
        for first in (0, 40):
            frames = np.stack([picture(first + i, 64, 48) for i in range(40)])
            writer.add_episode("t", {}, {CAMERA: frames})
    data = Dataset.open(tmp_path / "set")
    order = np.random.default_rng(3)
    for _ in range(20):
        number = int(order.integers(2))
        indices = order.integers(40, size=4)
        got = data.images(number, CAMERA, indices)
        for image, index in zip(got, indices, strict=True):
            wanted = picture(40 * number + int(index), 64, 48)
            assert abs(image.astype(int) - wanted).max() <= 3


def test_one_task_for_each_frame(tmp_path):
    with DatasetWriter(tmp_path / "set", FPS, {"x": Feature("float32", (1,))}) as writer:
        writer.add_episode(["reach", "reach", "grasp"], {"x": [1.0, 2, 3]})
        writer.add_episode("grasp", {"x": [4.0]})
    data = Dataset.open(tmp_path / "set")
    assert data.prompts(0) == ("reach", "reach", "grasp")
    assert data.episodes[0].tasks == ("reach", "grasp")
    assert data.prompts(1) == ("grasp",)
    np.testing.assert_array_equal(data.numbers(0)["x"], [[1], [2], [3]])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_read_the_same(tmp_path, method):
    data = pickle.loads(pickle.dumps(Dataset.open(write(tmp_path / "set"))))
    here = data.images(2, CAMERA, [0, 5, 8])
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        for images in pool.map(data.images, [2] * 4, [CAMERA] * 4, [[0, 5, 8]] * 4):
            np.testing.assert_array_equal(images, here)
    np.testing.assert_array_equal(data.images(2, CAMERA, [8]), here[2:])


def test_files_are_split_at_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr("openpi_flash_training.dataset.writer._MB", 1)
    with DatasetWriter(tmp_path / "set", FPS, FEATURES) as writer:
        for i in range(3):
            writer.add_episode("t", **episode(5 + i, 5 * i))
    data = Dataset.open(tmp_path / "set")
    assert [row.data.file for row in data.rows] == [0, 1, 2]
    assert [row.videos[CAMERA].start for row in data.rows] == [0, 0, 0]
    assert (tmp_path / f"set/videos/{CAMERA}/chunk-000/file-002.mp4").exists()
    np.testing.assert_array_equal(data.numbers(2)["action"], episode(7, 10)["numbers"]["action"])
    assert data.numbers(2, ["index"])["index"][:, 0].tolist() == list(range(11, 18))


def test_a_finished_dataset_is_resumed(tmp_path):
    folder = write(tmp_path / "set")
    before = (folder / "data/chunk-000/file-000.parquet").read_bytes()
    with DatasetWriter.resume(folder) as writer:
        assert writer.episodes == 3
        writer.add_episode("stack", **episode(6, 30), facts={"source": "later"})
    data = Dataset.open(folder)
    assert data.tasks == ("pick", "place", "stack")
    assert [row.length for row in data.rows] == [7, 4, 9, 6]
    assert data.rows[3].data == (0, 1)
    assert (folder / "data/chunk-000/file-000.parquet").read_bytes() == before
    assert abs(data.images(3, CAMERA, [4])[0].astype(int) - picture(34, 64, 48)).max() <= 3
    assert data.numbers(3, ["index"])["index"][0] == 20
    stats = json.loads((folder / "meta/stats.json").read_text())
    assert stats["action"]["count"] == [26]


def write_and_wait(folder: Path, ready) -> None:
    writer = DatasetWriter(folder, FPS, FEATURES)
    for i in range(2):
        writer.add_episode("t", **episode(5, 5 * i))
    # a third one is half written
    partial = folder / ".staged/.episode-000002.partial"
    partial.mkdir()
    (partial / "data.parquet").write_bytes(b"PAR1")
    ready.set()
    signal.pause()


def test_a_killed_writer_leaves_whole_episodes(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    folder = tmp_path / "set"
    process = context.Process(target=write_and_wait, args=(folder, ready))
    process.start()
    assert ready.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(DataError, match="unfinished.*2 episodes are whole"):
        Dataset.open(folder)
    with DatasetWriter.resume(folder) as writer:
        assert (writer.episodes, writer.frames) == (2, 10)
        writer.add_episode("u", **episode(4, 10))
    data = Dataset.open(folder)
    assert [(e.length, e.tasks) for e in data.episodes] == [(5, ("t",)), (5, ("t",)), (4, ("u",))]
    assert data.images(2, CAMERA, [3]).shape == (1, 64, 48, 3)
    assert not (folder / ".staged").exists()


@pytest.mark.parametrize("before", [0, 3], ids=["new", "appended"])
@pytest.mark.parametrize("last", ["meta/stats.json", "the staged episodes"])
def test_a_writer_killed_while_sealing_counts_nothing_twice(tmp_path, monkeypatch, before, last):
    folder = tmp_path / "set"
    if before:
        write(folder, [5] * before)
        writer = DatasetWriter.resume(folder)
    else:
        writer = DatasetWriter(folder, FPS, FEATURES)
    for i in range(2):
        writer.add_episode("t", **episode(5, 5 * (before + i)))

    def stop(*_):
        raise KeyboardInterrupt

    def write_all_but_stats(path, content):
        if path == folder / "meta/stats.json":
            raise KeyboardInterrupt
        write_json(path, content)

    sealing = "openpi_flash_training.dataset.sealed_files"
    stops = [
        (f"{sealing}.{name}", stop) for name in ("write_tasks", "write_episodes", "write_json")
    ]
    stops.append(("openpi_flash_training.dataset.info.DatasetInfo.write", stop))
    if last == "meta/stats.json":
        stops.append((f"{sealing}.write_json", write_all_but_stats))
    else:
        stops.append(("openpi_flash_training.dataset.staged.StagedEpisode.remove", stop))
    for name, stopped in stops:
        with monkeypatch.context() as patch:
            patch.setattr(name, stopped)
            with pytest.raises(KeyboardInterrupt):
                DatasetWriter.resume(folder).close()
    DatasetWriter.resume(folder).close()
    data = Dataset.open(folder)
    assert [e.length for e in data.episodes] == [5] * (before + 2)
    stats = json.loads((folder / "meta/stats.json").read_text())["index"]
    assert (stats["count"], stats["max"]) == ([data.frames], [data.frames - 1])
    assert len(list((folder / "data").rglob("*.parquet"))) == (2 if before else 1)


def without(key: str, kind: str) -> dict:
    content = episode(5)
    del content[kind][key]
    return content


def with_value(key: str, value: object) -> dict:
    content = episode(5)
    kind = next(kind for kind in ("numbers", "images", "texts") if key in content[kind])
    content[kind][key] = value
    return content


NAN = np.zeros((5, 3), np.float32)
NAN[3, 2] = np.nan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without(CAMERA, "images"), f"episode 1: lacks the camera {CAMERA}"),
        (without("action", "numbers"), "episode 1: lacks the feature action"),
        (with_value("action", np.zeros((5, 4))), r"action has the shape \(5, 4\), not \(5, 3\)"),
        (with_value("action", NAN), r"episode 1: action \[grip\] is nan at frame 3"),
        (with_value("action", [["a"] * 3] * 5), "action is <U1, which does not fit float32"),
        (with_value("label.seen", np.ones(5)), "label.seen is float64, which does not fit bool"),
        (with_value("action", np.full((5, 3), 1e300)), r"action \[a\] is 1e\+300 at frame 0"),
        (with_value(CAMERA, np.zeros((5, 64, 48, 3))), f"{CAMERA} is float64 "),
        (
            with_value(CAMERA, np.zeros((4, 64, 48, 3), np.uint8)),
            r"\(4, 64, 48, 3\), not uint8",
        ),
        (with_value("subtask", ["a"]), "subtask has 1 texts, not 5"),
    ],
)
def test_a_bad_episode_is_refused_and_the_dataset_goes_on(tmp_path, content, message):
    with DatasetWriter(tmp_path / "set", FPS, FEATURES) as writer:
        writer.add_episode("t", **episode(5))
        with pytest.raises(DataError, match=message):
            writer.add_episode("t", **content)
        writer.add_episode("t", **episode(6))
    assert [e.length for e in Dataset.open(tmp_path / "set").episodes] == [5, 6]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"index": Feature("int64", (1,))}, "index is a column that the writer fills"),
        ({"a/b": Feature("int64", (1,))}, "a/b is not a name"),
        ({"a": Feature("complex64", (1,))}, "has the type 'complex64'; known are"),
        ({"a": Feature("float32", ())}, r"has the shape \(\); a scalar is \(1,\)"),
        ({"a": Feature("video", (64, 48))}, r"a camera is \(height, width, 3\)"),
        ({"a": Feature("float32", (2,), ("x",))}, "has 1 names"),
    ],
)
def test_features_that_lerobot_lacks_are_refused(tmp_path, features, message):
    with pytest.raises(DataError, match=message):
        DatasetWriter(tmp_path / "set", FPS, features)
    assert not (tmp_path / "set").exists()


def test_a_folder_in_use_is_left_alone(tmp_path):
    folder = write(tmp_path / "set")
    with pytest.raises(DataError, match="has a dataset; append to it"):
        DatasetWriter(folder, FPS, FEATURES)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    with pytest.raises(DataError, match="is not empty"):
        DatasetWriter(tmp_path / "other", FPS, FEATURES)


def test_a_truncated_video_names_file_and_episode(tmp_path):
    folder = write(tmp_path / "set")
    video = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"file-000.mp4: episode 2: is not a video, or a truncated"):
        Dataset.open(folder).images(2, CAMERA, [0])
    video.unlink()
    with pytest.raises(DataError, match=r"file-000.mp4: episode 1: is missing"):
        Dataset.open(folder).images(1, CAMERA, [0])


def test_a_video_that_ends_early_names_the_time(tmp_path):
    folder = write(tmp_path / "set")
    video = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    with av.open(str(video), "w", format="mp4") as output:
        stream = output.add_stream("h264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(picture(i, 64, 48), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    data = Dataset.open(folder)
    assert data.images(1, CAMERA, [3]).shape == (1, 64, 48, 3)
    with pytest.raises(DataError, match=r"episode 2: has no frame at 1.267 s: it is 0.800 s long"):
        data.images(2, CAMERA, [8])


@pytest.mark.parametrize("file", ["data/chunk-000/file-000.parquet", "meta/tasks.parquet"])
def test_a_broken_table_is_named(tmp_path, file):
    folder = write(tmp_path / "set")
    (folder / file).write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=f"{file}.*is not a parquet file"):
        Dataset.open(folder).numbers(0)


def test_a_missing_episode_row_is_named(tmp_path):
    folder = write(tmp_path / "set")
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).slice(0, 2), path)
    with pytest.raises(DataError, match="episode 2: has no row of this episode, of 3"):
        Dataset.open(folder)


def test_what_is_not_there_is_named(tmp_path):
    data = Dataset.open(write(tmp_path / "set"))
    with pytest.raises(DataError, match="has no feature effort; it has observation.state"):
        data.numbers(0, ["effort"])
    with pytest.raises(DataError, match="episode 3: does not exist; there are 3"):
        data.numbers(3)
    with pytest.raises(DataError, match="episode 1: has 4 frames, frame 4 is asked for"):
        data.images(1, CAMERA, [4])
    with pytest.raises(DataError, match="action is no camera, it is float32"):
        data.images(1, "action", [0])
    with pytest.raises(DataError, match=r"info.json: is missing: not a LeRobot dataset"):
        Dataset.open(tmp_path)


def test_v21_has_files_and_tables_of_its_own(tmp_path):
    folder = tmp_path / "set"
    with DatasetWriter(folder, FPS, FEATURES, version="v2.1") as writer:
        for i, length in enumerate([7, 4]):
            writer.add_episode(f"task {i}", **episode(length, 10 * i), facts={"source": f"r{i}"})
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == [
        "data/chunk-000/episode_000000.parquet",
        "data/chunk-000/episode_000001.parquet",
        "meta/episodes.jsonl",
        "meta/episodes_stats.jsonl",
        "meta/info.json",
        "meta/tasks.jsonl",
        f"videos/chunk-000/{CAMERA}/episode_000000.mp4",
        f"videos/chunk-000/{CAMERA}/episode_000001.mp4",
    ]
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_videos"], info["total_chunks"]) == ("v2.1", 2, 1)
    assert info["data_path"] == (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    )
    lines = (folder / "meta/episodes.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {
        "episode_index": 1,
        "tasks": ["task 1"],
        "length": 4,
        "source": "r1",
    }
    stats = json.loads((folder / "meta/episodes_stats.jsonl").read_text().splitlines()[0])
    assert set(stats["stats"]["action"]) == {"min", "max", "mean", "std", "count"}


def test_v21_is_read_and_resumed(tmp_path):
    folder = tmp_path / "set"
    with DatasetWriter(folder, FPS, FEATURES, version="v2.1") as writer:
        writer.add_episode("one", **episode(7))
    with DatasetWriter.resume(folder) as writer:
        writer.add_episode("two", **episode(4, 10))
    data = Dataset.open(folder)
    assert data.tasks == ("one", "two")
    assert [(e.length, e.tasks) for e in data.episodes] == [(7, ("one",)), (4, ("two",))]
    np.testing.assert_array_equal(data.numbers(1)["action"], episode(4, 10)["numbers"]["action"])
    assert data.numbers(1, ["index"])["index"][0] == 7
    assert abs(data.images(1, CAMERA, [3])[0].astype(int) - picture(13, 64, 48)).max() <= 3
    np.testing.assert_array_equal(data.images(1, WRIST, [2]), episode(4, 10)["images"][WRIST][2:3])


def test_other_versions_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be written as 'v1.6'; v3.0 and v2.1 can"):
        DatasetWriter(tmp_path / "set", FPS, FEATURES, version="v1.6")
    folder = write(tmp_path / "set")
    path = folder / "meta/info.json"
    path.write_text(path.read_text().replace("v3.0", "v4.0"))
    with pytest.raises(DataError, match="is of the version v4.0; v2.0, v2.1 and v3.0 are read"):
        Dataset.open(folder)


@pytest.mark.parametrize("what", ["write_frames", "encode_video", "join_videos", "write_episodes"])
def test_a_full_disk_is_named_and_the_episodes_before_it_stay(tmp_path, monkeypatch, what):
    folder = tmp_path / "set"
    where = {"write_frames": "writer", "encode_video": "staged_images"}.get(what, "sealed_files")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = DatasetWriter(folder, FPS, FEATURES)
    writer.add_episode("t", **episode(5))
    with monkeypatch.context() as patch:
        patch.setattr(f"openpi_flash_training.dataset.{where}.{what}", full)

        def add_and_close():
            writer.add_episode("t", **episode(6))
            writer.close()

        with pytest.raises((DataError, OSError), match="No space left on device"):
            add_and_close()
    with pytest.raises(DataError, match="is unfinished"):
        Dataset.open(folder)
    DatasetWriter.resume(folder).close()
    lengths = [e.length for e in Dataset.open(folder).episodes]
    assert lengths == ([5, 6] if where == "sealed_files" else [5])


def test_images_may_be_handed_out_one_by_one(tmp_path):
    class Frames:
        dtype = np.dtype(np.uint8)

        def __init__(self, count: int, said: int) -> None:
            self.count, self.shape = count, (said, 64, 48, 3)

        def __iter__(self):
            return (picture(i, 64, 48) for i in range(self.count))

    features = {CAMERA: FEATURES[CAMERA]}
    with DatasetWriter(tmp_path / "set", FPS, features) as writer:
        writer.add_episode("t", {}, {CAMERA: Frames(20, 20)})
        with pytest.raises(DataError, match=f"episode 1: {CAMERA}: 19 images, not 20"):
            writer.add_episode("t", {}, {CAMERA: Frames(19, 20)})
        with pytest.raises(DataError, match=r"image 20 is \[64, 48, 3\], expected 20 of"):
            writer.add_episode("t", {}, {CAMERA: Frames(21, 20)})
    data = Dataset.open(tmp_path / "set")
    assert [e.length for e in data.episodes] == [20]
    assert abs(data.images(0, CAMERA, [13])[0].astype(int) - picture(13, 64, 48)).max() <= 3


def test_a_dataset_of_v20_is_read_and_not_appended_to(tmp_path):
    folder = tmp_path / "set"
    with DatasetWriter(folder, FPS, {"x": Feature("int64", (1,))}, version="v2.1") as writer:
        writer.add_episode("t", {"x": [1, 2]})
    path = folder / "meta/info.json"
    path.write_text(path.read_text().replace("v2.1", "v2.0"))
    assert Dataset.open(folder).numbers(0)["x"].tolist() == [[1], [2]]
    with pytest.raises(DataError, match="is of the version v2.0; convert it to v3.0 to go on"):
        DatasetWriter.resume(folder)


def test_other_video_settings_begin_another_file(tmp_path):
    from openpi_flash_training.dataset.video_file import VideoSettings, encode_video, join_videos

    folder = tmp_path / "set"
    features = {CAMERA: FEATURES[CAMERA]}
    frames = np.stack([picture(i, 64, 48) for i in range(6)])
    DatasetWriter(folder, FPS, features).add_episode("t", {}, {CAMERA: frames})
    settings = VideoSettings(keyframe_interval=3, preset="slow")
    with DatasetWriter.resume(folder, settings) as writer:
        writer.add_episode("t", {}, {CAMERA: frames[::-1]})
    data = Dataset.open(folder)
    assert [row.videos[CAMERA].place.file for row in data.rows] == [0, 1]
    assert abs(data.images(1, CAMERA, [0])[0].astype(int) - picture(5, 64, 48)).max() <= 3
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    encode_video(one, frames, FPS, VideoSettings())
    encode_video(two, frames, FPS, settings)
    with pytest.raises(DataError, match="two.mp4: was encoded with other settings"):
        join_videos([one, two], [6, 6], tmp_path / "both.mp4", FPS)

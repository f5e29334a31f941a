"""What lerobot itself makes of our datasets, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from test_dataset import CAMERA, WRIST, episode, picture, write

pytest.importorskip("lerobot")


def test_lerobot_reads_our_dataset(tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    folder = write(tmp_path / "set")
    data = LeRobotDataset("local/set", root=folder, video_backend="pyav")
    assert (data.meta.total_episodes, len(data)) == (3, 20)
    assert list(data.meta.tasks.index) == ["pick", "place"]
    row = 0
    for number, length in enumerate([7, 4, 9]):
        wanted = episode(length, 10 * number)
        for i in range(length):
            item = data[row]
            row += 1
            assert item["task"] == ("pick" if number % 2 == 0 else "place")
            assert item["subtask"] == f"step {i}"
            for key, values in wanted["numbers"].items():
                np.testing.assert_array_equal(item[key].numpy(), np.asarray(values[i], np.float32))
            stored = item[WRIST].permute(1, 2, 0).numpy() * 255
            np.testing.assert_allclose(stored, wanted["images"][WRIST][i], atol=1e-3)
            shown = item[CAMERA].permute(1, 2, 0).numpy() * 255
            assert abs(shown - picture(10 * number + i, 64, 48)).max() <= 3
    assert data.meta.stats["action"]["count"].tolist() == [20]


def test_lerobot_appends_to_our_dataset_and_we_read_it(tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from openpi_flash_training.dataset.feature import Feature
    from openpi_flash_training.dataset.reader import Dataset
    from openpi_flash_training.dataset.writer import DatasetWriter

    folder = tmp_path / "set"
    features = {"action": Feature("float32", (2,), ("a", "b")), "mark": Feature("int64", (1,))}
    with DatasetWriter(folder, 10, features) as writer:
        writer.add_episode("one", {"action": np.ones((4, 2)), "mark": [1, 2, 3, 4]})
    data = LeRobotDataset("local/set", root=folder)
    for i in range(3):
        data.add_frame(
            {"action": np.float32([i, 2]), "mark": np.array([i], np.int64), "task": "two"}
        )
    data.save_episode()
    if hasattr(data, "finalize"):
        data.finalize()
    with DatasetWriter.resume(folder) as writer:
        writer.add_episode("three", {"action": np.zeros((2, 2)), "mark": [8, 9]})
    ours = Dataset.open(folder)
    assert ours.tasks == ("one", "two", "three")
    assert [e.length for e in ours.episodes] == [4, 3, 2]
    np.testing.assert_array_equal(ours.numbers(1)["action"], [[0, 2], [1, 2], [2, 2]])
    np.testing.assert_array_equal(ours.numbers(2)["mark"], [[8], [9]])
    theirs = LeRobotDataset("local/set", root=folder)
    assert [int(theirs[i]["mark"]) for i in range(9)] == [1, 2, 3, 4, 0, 1, 2, 8, 9]

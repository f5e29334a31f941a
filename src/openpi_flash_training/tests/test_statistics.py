"""Statistics: openpi's to the last digit, the exact ones, and from which rows they come."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.robots.aloha import ALOHA
from openpi_flash_models.transforms.delta import delta_mask, relative_actions
from openpi_flash_models.transforms.norm_stats import FieldStats, read_norm_stats
from openpi_flash_training.dataset.columns import find_columns
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.statistics.exact import exact_statistics
from openpi_flash_training.statistics.measure import Measured, MeasuredField, measure
from openpi_flash_training.statistics.norm_stats_file import norm_stats_path, write_norm_stats
from openpi_flash_training.statistics.rows import chunk_steps
from openpi_flash_training.statistics.running import RunningStatistics
from openpi_flash_training.statistics.small_ranges import range_warnings

DATA = Path(__file__).parent / "data/openpi_norm_stats"
CONFIG = replace(
    get_config("pi05_aloha"), name="test_aloha", action_horizon=10, asset_id="lab/aloha"
)


def openpis(name: str) -> dict:
    return json.loads((DATA / f"{name}.json").read_text())["norm_stats"]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(DATA / "dataset.npz") as file:
        return {key: file[key] for key in file}


def running(batches: np.ndarray) -> FieldStats:
    statistics = RunningStatistics()
    for batch in batches:
        statistics.update(batch)
    return statistics.result()


def assert_equal(stats: FieldStats, wanted: dict) -> None:
    for name in ("mean", "std", "q01", "q99"):
        got = getattr(stats, name).tolist()
        assert got == wanted[name], name


@pytest.mark.parametrize("field", ["state", "actions"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_statistics_are_openpis_to_the_last_digit(arrays, field, dtype):
    assert_equal(running(arrays[field].astype(dtype)), openpis(dtype)[field])


def test_delta_actions_are_openpis_to_the_last_digit(arrays):
    mask = np.array(delta_mask(6, -1, 6, -1))
    relative = arrays["actions"] - np.where(mask, arrays["state"], 0)[:, :, None]
    assert_equal(running(relative), openpis("delta")["actions"])


def test_the_aloha_chain_is_openpis_to_the_last_digit():
    with np.load(DATA / "aloha.npz") as file:
        arrays = dict(file)
    states, chunks = [], []
    for batch, actions in zip(arrays["state"], arrays["actions"], strict=True):
        state = np.stack([ALOHA.state_to_model(row) for row in batch])
        chunk = np.stack([ALOHA.actions_to_model(rows) for rows in actions])
        chunk = np.stack(
            [
                relative_actions(rows, row, delta_mask(6, -1, 6, -1))
                for rows, row in zip(chunk, state, strict=True)
            ]
        )
        states.append(state.astype(np.float32))
        chunks.append(chunk.astype(np.float32))
    wanted = openpis("aloha")
    for name, rows in (("state", states), ("actions", chunks)):
        assert_equal(running(np.stack(rows)), wanted[name])


def dataset(folder: Path, states: np.ndarray, actions: np.ndarray, lengths: list[int]) -> Dataset:
    features = {
        "observation.state": Feature("float32", states.shape[1:]),
        "action": Feature("float32", actions.shape[1:]),
    }
    start = 0
    with DatasetWriter(folder, 50, features) as writer:
        for length in lengths:
            rows = slice(start, start + length)
            writer.add_episode("t", {"observation.state": states[rows], "action": actions[rows]})
            start += length
    return Dataset.open(folder)


def measured(data: Dataset, config=CONFIG, **options) -> Measured:
    columns = find_columns(data.folder, config.robot, data.features, {}, need_cameras=False)
    return measure(data, columns, config, **options)


@pytest.fixture
def motion() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    states = np.cumsum(rng.normal(0, 0.01, (230, 14)), axis=0).astype(np.float32)
    states[:, [6, 13]] = rng.uniform(0, 1, (230, 2))
    actions = (states + rng.normal(0, 0.05, (230, 14))).astype(np.float32)
    return states, actions


def test_a_dataset_is_measured_in_the_models_space_over_the_horizon(tmp_path, motion):
    """Every frame counts once for each chunk that it is in, relative to the chunk's state."""
    states, actions = motion
    lengths = [100, 61, 69]
    data = dataset(tmp_path / "set", states, actions, lengths)
    wanted_states, wanted_chunks, start = [], [], 0
    for length in lengths:
        for t in range(length):
            state = ALOHA.state_to_model(states[start + t])
            chunk = np.stack(
                [actions[start + min(t + i, length - 1)] for i in range(CONFIG.action_horizon)]
            )
            chunk = ALOHA.actions_to_model(chunk)
            for d in (*range(6), *range(7, 13)):
                chunk[:, d] -= state[d]
            wanted_states.append(state)
            wanted_chunks.append(chunk)
        start += length
    kept = 230 // 32 * 32
    states_of, chunks_of = RunningStatistics(), RunningStatistics()
    for at in range(0, kept, 32):
        states_of.update(np.stack(wanted_states[at : at + 32]))
        chunks_of.update(np.stack(wanted_chunks[at : at + 32]))
    result = measured(data)
    assert result.frames == kept == 224
    for got, wanted in ((result.state, states_of), (result.actions, chunks_of)):
        for name in ("mean", "std", "q01", "q99"):
            np.testing.assert_array_equal(getattr(got.stats, name), getattr(wanted.result(), name))
    exact = measured(data, exact=True)
    assert exact.frames == 230
    rows = np.concatenate(wanted_chunks)
    np.testing.assert_allclose(exact.actions.stats.q99, np.quantile(rows, 0.99, axis=0))
    np.testing.assert_allclose(exact.actions.stats.std, rows.std(axis=0))


def test_a_small_dataset_is_one_batch(tmp_path, motion):
    states, actions = motion
    data = dataset(tmp_path / "set", states[:9], actions[:9], [4, 5])
    assert measured(data).frames == 9


def test_chunks_repeat_the_last_action_of_their_episode():
    assert chunk_steps(4, 3).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 3], [3, 3, 3]]


def test_exact_statistics_keep_what_float32_loses():
    rows = np.random.default_rng(0).normal(1000, 0.01, (5000, 1)).astype(np.float32)
    stats, low, high = exact_statistics([rows[:1000], rows[1000:]])
    assert stats.std == pytest.approx(rows.astype(np.float64).std(), rel=1e-9)
    assert abs(running([rows]).std[0] / stats.std[0] - 1) > 0.5
    assert (low[0], high[0]) == (rows.min(), rows.max())


def test_the_file_is_where_serving_reads_it(tmp_path, motion):
    data = dataset(tmp_path / "set", *motion, [230])
    result = measured(data)
    path = norm_stats_path(tmp_path / "out", "lab/aloha")
    write_norm_stats(path, result)
    assert path == tmp_path / "out/assets/lab/aloha/norm_stats.json"
    stats = read_norm_stats(tmp_path / "out", "lab/aloha")
    np.testing.assert_array_equal(stats.actions.q99, result.actions.stats.q99)
    assert list(json.loads(path.read_text())["norm_stats"]["state"]) == list(
        openpis("float32")["state"]
    )


def field(values: np.ndarray) -> MeasuredField:
    stats, low, high = exact_statistics([values])
    names = tuple(f"joint_{i}" for i in range(values.shape[1]))
    return MeasuredField(stats, low, high, names)


def test_small_ranges_are_named():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4000, 4))
    values[:, 1] = 0.3
    values[:, 2] *= 1e-6
    values[:, 3] *= 1e-3
    values[7, 3] = 5.0
    lines = list(range_warnings(Measured(field(values), field(values[:, :1]), 4000), "quantile"))
    assert [line.partition(":")[0] for line in lines] == [
        "state[1] (joint_1)",
        "state[2] (joint_2)",
        "state[3] (joint_3)",
    ]
    assert "it never moves" in lines[0]
    assert "serving refuses" in lines[0]
    assert "noise at full size" in lines[1]
    assert "the data reach from" in lines[2]
    still = Measured(field(values[:, :1]), field(values[:, :1]), 4000)
    assert not list(range_warnings(still, "mean_std"))


def test_a_dataset_of_another_robot_is_refused(tmp_path, motion):
    states, actions = motion
    data = dataset(tmp_path / "set", states[:, :7], actions[:, :7], [230])
    with pytest.raises(DataError, match=r"set: the column observation.state has 7 numbers a frame"):
        measured(data)


def test_a_robot_without_a_way_into_the_models_space_is_refused(tmp_path, motion):
    data = dataset(tmp_path / "set", *motion, [230])
    config = replace(CONFIG, robot=replace(ALOHA, actions_to_model=None))
    with pytest.raises(DataError, match="robot aloha has no actions_to_model"):
        measured(data, config)


def test_one_frame_has_no_statistics(tmp_path, motion):
    states, actions = motion
    data = dataset(tmp_path / "set", states[:1], actions[:1], [1])
    with pytest.raises(DataError, match="1 rows have no statistics"):
        measured(data)

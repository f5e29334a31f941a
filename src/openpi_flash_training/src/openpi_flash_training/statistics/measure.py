"""The statistics of a dataset for a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.transforms.norm_stats import FieldStats
from openpi_flash_training.dataset.columns import Columns
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.statistics.exact import exact_statistics
from openpi_flash_training.statistics.rows import batches, model_rows
from openpi_flash_training.statistics.running import RunningStatistics

OPENPI_BATCH = 32
"""Frames that openpi's script counts at a time; the last partial batch is left out."""


@dataclass(frozen=True)
class MeasuredField:
    """Statistics of state or actions, and the range that they were measured on.

    Attributes:
        stats: mean, deviation and quantiles, [D].
        low: the least of each dimension, [D].
        high: the greatest, [D].
        names: of the dimensions.
    """

    stats: FieldStats
    low: np.ndarray
    high: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        state: in the model's space.
        actions: likewise, relative where the config says so.
        frames: how many were counted.
    """

    state: MeasuredField
    actions: MeasuredField
    frames: int


def measure(
    dataset: Dataset,
    columns: Columns,
    config: InferenceConfig,
    *,
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """Measure a dataset.

    Args:
        dataset: read from.
        columns: where it has state and actions.
        config: names the robot, the horizon, and which actions are relative.
        exact: count every frame and compute quantiles exactly; otherwise as openpi.
        progress: called with the number of frames that are done.

    Raises:
        DataError: the dataset cannot be used, or has too few frames.
    """
    names = _names(config)
    progress = progress or _silent
    try:
        if exact:
            return _exact(dataset, columns, config, names, progress)
        state, actions = RunningStatistics(), RunningStatistics()
        for states, chunks in batches(dataset, columns, config, OPENPI_BATCH):
            state.update(states)
            actions.update(chunks)
            progress(state.count)
        fields = [
            MeasuredField(running.result(), running.low, running.high, these)
            for running, these in zip((state, actions), names, strict=True)
        ]
    except ValueError as error:
        raise DataError(dataset.folder, str(error)) from error
    return Measured(fields[0], fields[1], state.count)


def _exact(
    dataset: Dataset,
    columns: Columns,
    config: InferenceConfig,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    progress: Callable[[int], None],
) -> Measured:
    states, chunks, frames = [], [], 0
    for episode in dataset.episodes:
        new_states, new_chunks = model_rows(dataset, episode.index, columns, config)
        states.append(new_states)
        chunks.append(new_chunks)
        frames += len(new_states)
        progress(frames)
    if not states:
        raise DataError(dataset.folder, "has no episode")
    return Measured(
        MeasuredField(*exact_statistics(states), names[0]),
        MeasuredField(*exact_statistics(chunks), names[1]),
        frames,
    )


def _silent(frames: int) -> None:
    del frames


def _names(config: InferenceConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    state: list[str] = []
    for part in config.robot.state:
        state += part.names or [f"{part.name}[{i}]" for i in range(part.size)]
    return tuple(state), config.robot.action_names

"""Counts a dataset: episodes, lengths, tasks, ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.inspection.lint import (
    ACTIONS,
    STATES,
    dimension_names,
    vector_key,
)
from openpi_flash_training.inspection.motion_checks import Column, columns_of, measure_lag
from openpi_flash_training.inspection.prompt_checks import frames_by_task

QUANTILES = (0.0, 0.01, 0.5, 0.99, 1.0)


@dataclass(frozen=True)
class Ranges:
    """Where the numbers of a column lie.

    Attributes:
        key: of the column.
        names: of its numbers, [D].
        quantiles: minimum, 1st, 50th, 99th percentile, maximum, [5, D].
    """

    key: str
    names: tuple[str, ...]
    quantiles: np.ndarray


@dataclass(frozen=True)
class Summary:
    """What is in a dataset.

    Attributes:
        lengths: frames of each episode.
        tasks: frames of each task, the most frequent first.
        task_of: the first task of each episode.
        ranges: of state and action.
        lag: seconds by which the state follows the action, and the correlation; None: not known.
        columns: all numbers of state and action, by key.
    """

    lengths: tuple[int, ...]
    tasks: Mapping[str, int]
    task_of: tuple[str, ...]
    ranges: tuple[Ranges, ...]
    lag: tuple[float, float] | None
    columns: Mapping[str, Column]


def summarise(dataset: Dataset) -> Summary:
    """Count a dataset.

    Raises:
        DataError: an episode cannot be read.
    """
    keys = [key for wanted in (STATES, ACTIONS) if (key := vector_key(dataset, wanted))]
    numbers = [dataset.numbers(episode.index, keys) for episode in dataset.episodes]
    columns = columns_of(numbers, {key: dimension_names(dataset, key) for key in keys})
    prompts = [dataset.prompts(episode.index) for episode in dataset.episodes]
    lag = None
    if len(keys) == 2 and dataset.episodes:
        lag = measure_lag(columns[keys[0]], columns[keys[1]], dataset.fps)
    return Summary(
        lengths=tuple(episode.length for episode in dataset.episodes),
        tasks=frames_by_task(prompts),
        task_of=tuple(words[0] for words in prompts),
        ranges=tuple(
            Ranges(key, column.names, np.quantile(column.rows, QUANTILES, axis=0))
            for key, column in columns.items()
            if column.episodes
        ),
        lag=lag,
        columns=columns,
    )

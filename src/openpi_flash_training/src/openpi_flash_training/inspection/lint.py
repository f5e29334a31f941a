"""All checks of a dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.inspection.finding import Finding
from openpi_flash_training.inspection.image_checks import check_cameras
from openpi_flash_training.inspection.motion_checks import (
    Column,
    check_constant,
    check_finite,
    check_grippers,
    check_idle,
    check_lag,
    check_lengths,
    check_outliers,
    check_timestamps,
    columns_of,
    still_frames,
)
from openpi_flash_training.inspection.prompt_checks import check_prompts

STATES, ACTIONS = ("observation.state", "state"), ("action", "actions")


def lint(dataset: Dataset, *, images: bool = True) -> Iterator[Finding]:
    """Check a dataset.

    Args:
        dataset: read from.
        images: whether to look at images, which takes the most time.
    """
    if not dataset.episodes:
        yield Finding("error", "length", "there is no episode")
        return
    lengths = [episode.length for episode in dataset.episodes]
    yield from check_lengths(lengths)
    state_key, action_key = vector_key(dataset, STATES), vector_key(dataset, ACTIONS)
    keys = [key for key in (state_key, action_key) if key is not None]
    for key, wanted in ((state_key, STATES), (action_key, ACTIONS)):
        if key is None:
            yield Finding("warning", "features", f"there is no column {' or '.join(wanted)}")
    numbers = []
    for episode in dataset.episodes:
        try:
            numbers.append(dataset.numbers(episode.index, [*keys, "timestamp"]))
        except DataError as error:
            yield Finding("error", "data", f"{error.path} {error.problem}", episode.index)
            return
    columns = columns_of(numbers, {key: dimension_names(dataset, key) for key in keys})
    yield from check_timestamps([n["timestamp"][:, 0] for n in numbers], dataset.fps)
    broken = [finding for column in columns.values() for finding in check_finite(column)]
    yield from broken
    if columns and not broken:
        yield from _motion(columns, state_key, action_key, dataset.fps)
    yield from check_prompts([dataset.prompts(episode.index) for episode in dataset.episodes])
    if images:
        moved = list(columns.values())
        still = (
            still_frames(moved)
            if moved and not broken
            else [np.zeros(length, np.bool_) for length in lengths]
        )
        yield from check_cameras(dataset, still)


def vector_key(dataset: Dataset, wanted: tuple[str, ...]) -> str | None:
    """The first of some columns that the dataset has as a vector of numbers."""
    for key in wanted:
        feature = dataset.features.get(key)
        if feature is not None and feature.is_number and len(feature.shape) == 1:
            return key
    return None


def dimension_names(dataset: Dataset, key: str) -> tuple[str, ...]:
    """Names of a vector's numbers; their numbers where nobody named them."""
    feature = dataset.features[key]
    return feature.names or tuple(f"dim_{i}" for i in range(feature.shape[0]))


def _motion(
    columns: dict[str, Column], state: str | None, action: str | None, fps: float
) -> Iterator[Finding]:
    for column in columns.values():
        yield from check_constant(column)
        yield from check_outliers(column)
        yield from check_grippers(column)
    yield from check_idle(list(columns.values()), fps)
    if state is not None and action is not None:
        yield from check_lag(columns[state], columns[action], fps)

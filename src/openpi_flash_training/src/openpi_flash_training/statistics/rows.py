"""States and chunks of actions of a dataset, in the space in which a model is normalised.

The robot's own conversion comes first, then actions relative to the state; resizing, padding and
the prompt come after the statistics, as in openpi.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.transforms.delta import relative_actions
from openpi_flash_training.dataset.columns import Columns
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.episodes.error import DataError


def chunk_steps(length: int, horizon: int) -> np.ndarray:
    """The frames of the chunk that begins at each frame, int [T, H].

    Past the end of the episode a chunk repeats the last action, as openpi has it.
    """
    return np.minimum(np.arange(length)[:, None] + np.arange(horizon), length - 1)


def model_rows(
    dataset: Dataset, episode: int, columns: Columns, config: InferenceConfig
) -> tuple[np.ndarray, np.ndarray]:
    """An episode's states [T, S] and chunks [T, H, A] in the model's space, not normalised.

    Args:
        dataset: read from.
        episode: index.
        columns: where the dataset has state and actions.
        config: names the robot, the horizon, and which actions are relative.

    Raises:
        DataError: the episode cannot be read, or has a value that is not finite; the robot's
            actions cannot be brought into the model's space.
    """
    robot = config.robot
    if robot.actions_to_model is None:
        raise DataError(
            dataset.folder, f"the robot {robot.name} has no actions_to_model, which training needs"
        )
    keys = [columns.action, *(part.column for part in columns.state)]
    numbers = dataset.numbers(episode, dict.fromkeys(keys))
    for key, values in numbers.items():
        if not np.isfinite(values).all():
            frame = int(np.argwhere(~np.isfinite(values))[0][0])
            raise DataError(dataset.folder, f"{key} is not finite at frame {frame}", episode)
    parts = [numbers[p.column][:, p.start : p.start + p.size] for p in columns.state]
    measured = np.concatenate(parts, axis=1)
    states = np.stack([robot.state_to_model(row) for row in measured])
    actions = numbers[columns.action]
    chunks = []
    for state, steps in zip(states, chunk_steps(len(actions), config.action_horizon), strict=True):
        chunk = robot.actions_to_model(actions[steps])
        chunks.append(relative_actions(chunk, state, config.delta_mask))
    return states, np.stack(chunks)


def batches(
    dataset: Dataset, columns: Columns, config: InferenceConfig, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The whole dataset in its own order, by batches of ``size`` frames.

    The last frames that fill no batch are left out, as openpi's loader does; a dataset that is
    smaller than a batch is one batch.

    Raises:
        DataError: as :func:`model_rows`.
    """
    states: list[np.ndarray] = []
    chunks: list[np.ndarray] = []
    waiting, given = 0, False
    for episode in dataset.episodes:
        new_states, new_chunks = model_rows(dataset, episode.index, columns, config)
        states.append(new_states)
        chunks.append(new_chunks)
        waiting += len(new_states)
        if waiting < size:
            continue
        all_states, all_chunks = np.concatenate(states), np.concatenate(chunks)
        for start in range(0, waiting - size + 1, size):
            yield all_states[start : start + size], all_chunks[start : start + size]
            given = True
        rest = waiting % size
        states, chunks = [all_states[waiting - rest :]], [all_chunks[waiting - rest :]]
        waiting = rest
    if waiting and not given:
        yield np.concatenate(states), np.concatenate(chunks)

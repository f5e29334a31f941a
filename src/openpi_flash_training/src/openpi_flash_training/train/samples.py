"""Training samples of a LeRobot dataset, by number: one for each frame.

The request that a robot would have sent at the frame goes through the transforms that serve it
(``ObservationReader``); the chunk is the actions from the frame on, and past the episode's end its
last action, as openpi has it. Nothing here needs JAX, so that workers start fast.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from openpi_flash_models.actions.fast import FastTokenizer
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.config.robot_file import add_robot_file
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.policy.observation_reader import ObservationReader
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import NormStats
from openpi_flash_models.transforms.normalize import Normalization
from openpi_flash_training.dataset.columns import Columns
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.train.texts import Text, fast_text, plain_text, subtask_text

POINTS, POSITION = "label.points.", "label.position"
"""Columns of the labels of extra losses: ``label.points.<camera slot>``, ``label.position``."""

Sample = dict[str, Any]


@dataclass(frozen=True)
class SampleRecipe:
    """How a frame becomes a sample. Plain data, which is sent to workers.

    Attributes:
        config: name of the inference config.
        robot_file: defines it; None: it is ours.
        shape: of the model.
        cameras: the model's slots that samples fill.
        columns: of the dataset.
        stats: of the robot's state and actions.
        normalization: how they are used.
        tokenizer: PaliGemma's file.
        fast_tokenizer: directory; None: the model writes no FAST tokens.
        prompt: the task of every sample; None: the dataset's.
        subtask: text column of the subtasks; None: none.
        subtask_prompt: what is read before a subtask.
        subtask_length: tokens of both.
        objects: whether the image tokens learn places of objects (column ``label.points.<slot>``).
        coordinates: whether the prompt learns a place (column ``label.position``).
    """

    config: str
    robot_file: str | None
    shape: ModelShape
    cameras: tuple[str, ...]
    columns: Columns
    stats: NormStats
    normalization: Normalization
    tokenizer: Path
    fast_tokenizer: Path | None = None
    prompt: str | None = None
    subtask: str | None = None
    subtask_prompt: str = ""
    subtask_length: int = 0
    objects: bool = False
    coordinates: bool = False


@dataclass
class Samples:
    """A sequence of samples; files and tokenizers are opened by the process that reads.

    Attributes:
        dataset: where the frames are.
        recipe: what becomes of them.
    """

    dataset: Dataset
    recipe: SampleRecipe
    _numbers: dict[int, Mapping[str, np.ndarray]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> tuple[Dataset, SampleRecipe]:
        return self.dataset, self.recipe

    def __setstate__(self, state: tuple[Dataset, SampleRecipe]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"Samples({self.dataset.folder}, {len(self)})"

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> Sample:
        """A sample: arrays without a batch axis, named as the fields of ``batch.Batch``.

        Raises:
            DataError: the frame cannot be used; names the episode and the frame.
        """
        episode = bisect_right(self._ends, number)
        frame = number - (self._ends[episode - 1] if episode else 0)
        try:
            return self._sample(episode, frame)
        except ObservationError as error:
            raise DataError(self.dataset.folder, f"frame {frame}: {error}", episode) from error

    def _sample(self, episode: int, frame: int) -> Sample:
        recipe, reader = self.recipe, self._reader
        request = self._request(episode, frame)
        state = self._config.robot.read_state(request)
        inputs = reader.model_inputs(request, state)
        actions = self._actions(episode, frame, state)
        slots = self._config.cameras
        sample: Sample = {
            "images": {slot: inputs.images[0, slots.index(slot)] for slot in recipe.cameras},
            "image_masks": {
                slot: inputs.image_mask[0, slots.index(slot)] for slot in recipe.cameras
            },
            "actions": self._padded(actions),
        }
        if inputs.state is not None:
            sample["state"] = inputs.state[0]
        if self._fast is None:
            sample["prompt"] = plain_text(inputs.tokens[0], inputs.token_mask[0])
        else:
            sample["prompt"] = fast_text(
                self._tokenizer,
                self._fast,
                inputs.tokens[0][inputs.token_mask[0]],
                actions,
                self._config.max_token_len,
            )
        if recipe.subtask is not None:
            sample["subtask"] = self._subtask(episode, frame, request["prompt"])
        if recipe.objects or recipe.coordinates:
            sample["labels"] = self._labels(episode, frame)
        return sample

    def _request(self, episode: int, frame: int) -> dict[str, Any]:
        """What the robot would have sent."""
        recipe, numbers = self.recipe, self._episode(episode)
        request: dict[str, Any] = {}
        for part in recipe.columns.state:
            values = numbers[part.column][frame, part.start : part.start + part.size]
            _place(request, part.path, values)
        for path, column in recipe.columns.cameras.items():
            _place(request, path, self.dataset.images(episode, column, [frame])[0])
        request["prompt"] = recipe.prompt or self._prompts(episode)[frame]
        return request

    def _actions(self, episode: int, frame: int, state: np.ndarray) -> np.ndarray:
        """[H, D] in the model's normalised space."""
        actions = self._episode(episode)[self.recipe.columns.action]
        steps = np.minimum(frame + np.arange(self._config.action_horizon), len(actions) - 1)
        chunk = actions[steps].astype(np.float64)
        made = self._reader.to_model(chunk, state)
        if not np.isfinite(made.astype(np.float32)).all():
            raise DataError(self.dataset.folder, f"frame {frame}: an action is not finite", episode)
        return made

    def _padded(self, actions: np.ndarray) -> np.ndarray:
        width = self._config.action_dim if self._fast is not None else self.recipe.shape.action_dim
        padded = np.zeros((len(actions), width), np.float32)
        padded[:, : actions.shape[1]] = actions[:, :width]
        return padded

    def _subtask(self, episode: int, frame: int, task: str) -> Text:
        recipe = self.recipe
        assert recipe.subtask is not None
        words = self._texts(episode)[recipe.subtask][frame]
        return subtask_text(
            self._tokenizer, task, words, recipe.subtask_prompt, recipe.subtask_length
        )

    def _labels(self, episode: int, frame: int) -> dict[str, Any]:
        numbers, labels = self._episode(episode), dict[str, Any]()
        if self.recipe.objects:
            labels["points"] = {
                slot: numbers[f"{POINTS}{slot}"][frame].astype(np.float32)
                for slot in self.recipe.cameras
            }
        if self.recipe.coordinates:
            labels["position"] = numbers[POSITION][frame].astype(np.float32)
        return labels

    def _episode(self, episode: int) -> Mapping[str, np.ndarray]:
        """Every number that samples need of an episode.

        They are kept: all numbers of a dataset are small beside its images.
        """
        found = self._numbers.get(episode)
        if found is None:
            found = self._numbers[episode] = self.dataset.numbers(episode, self._keys)
        return found

    def _prompts(self, episode: int) -> tuple[str, ...]:
        return self.dataset.prompts(episode)

    def _texts(self, episode: int) -> Mapping[str, tuple[str, ...]]:
        return self.dataset.texts(episode)

    @cached_property
    def _keys(self) -> list[str]:
        recipe = self.recipe
        keys = [recipe.columns.action, *(part.column for part in recipe.columns.state)]
        if recipe.objects:
            keys += [f"{POINTS}{slot}" for slot in recipe.cameras]
        if recipe.coordinates:
            keys.append(POSITION)
        return list(dict.fromkeys(keys))

    @cached_property
    def _ends(self) -> list[int]:
        """Number of the first sample after each episode."""
        return list(accumulate(episode.length for episode in self.dataset.episodes))

    @cached_property
    def _config(self) -> InferenceConfig:
        if self.recipe.robot_file is not None:
            add_robot_file(Path(self.recipe.robot_file))
        return get_config(self.recipe.config)

    @cached_property
    def _tokenizer(self) -> PaligemmaTokenizer:
        return PaligemmaTokenizer(self.recipe.tokenizer)

    @cached_property
    def _fast(self) -> FastTokenizer | None:
        directory = self.recipe.fast_tokenizer
        return None if directory is None else FastTokenizer(directory)

    @cached_property
    def _reader(self) -> ObservationReader:
        recipe = self.recipe
        return ObservationReader(
            self._config,
            recipe.shape,
            recipe.stats,
            self._tokenizer,
            None,
            normalization=recipe.normalization,
        )


def _place(request: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        request = request.setdefault(key, {})
    request[path[-1]] = value

"""Training samples of a LeRobot dataset, by number: one for each frame (and prompt, of several).

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
from openpi_flash_training.train.labels import LabelColumns, labels_of
from openpi_flash_training.train.texts import Text, fast_text, plain_text, subtask_text

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
        chunks: column of each frame's chunk; None: the actions from the frame on.
        prompts: tasks that a frame has chunks for, in groups of as many as it has chunks: a frame's
            are those of the group with its own task. Empty: each frame has one chunk.
        subtask: column of the subtasks; None: none.
        subtask_texts: what its numbers stand for; empty: it has texts.
        subtask_prompt: what is read before a subtask.
        subtask_length: tokens of both.
        labels: of the extra losses; None: there are none.
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
    chunks: str | None = None
    prompts: tuple[str, ...] = ()
    subtask: str | None = None
    subtask_texts: tuple[str, ...] = ()
    subtask_prompt: str = ""
    subtask_length: int = 0
    labels: LabelColumns | None = None


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
        return self._ends[-1] * self._variants

    def __getitem__(self, number: int) -> Sample:
        """A sample: arrays without a batch axis, named as the fields of ``batch.Batch``.

        Raises:
            DataError: the frame cannot be used; names the episode and the frame.
        """
        place, variant = divmod(number, self._variants)
        episode = bisect_right(self._ends, place)
        frame = place - (self._ends[episode - 1] if episode else 0)
        try:
            return self._sample(episode, frame, variant)
        except ObservationError as error:
            raise DataError(self.dataset.folder, f"frame {frame}: {error}", episode) from error

    def _sample(self, episode: int, frame: int, variant: int) -> Sample:
        recipe, reader = self.recipe, self._reader
        request = self._request(episode, frame, variant)
        state = self._config.robot.read_state(request)
        inputs = reader.model_inputs(request, state)
        actions = self._actions(episode, frame, variant, state)
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
            sample["subtask"] = self._subtask(episode, frame, variant, request["prompt"])
        if recipe.labels is not None:
            sample["labels"] = labels_of(
                recipe.labels,
                self._episode(episode),
                frame,
                prompt=variant,
                pictures=self._pictures,
                side=recipe.shape.image_size,
            )
        return sample

    def _request(self, episode: int, frame: int, variant: int) -> dict[str, Any]:
        """What the robot would have sent."""
        recipe, numbers = self.recipe, self._episode(episode)
        request: dict[str, Any] = {}
        for part in recipe.columns.state:
            values = numbers[part.column][frame, part.start : part.start + part.size]
            _place(request, part.path, values)
        for path, column in recipe.columns.cameras.items():
            _place(request, path, self.dataset.images(episode, column, [frame])[0])
        request["prompt"] = self._prompt(episode, frame, variant)
        return request

    def _prompt(self, episode: int, frame: int, variant: int) -> str:
        prompts = self.recipe.prompts
        own = self.recipe.prompt or self.dataset.prompts(episode)[frame]
        if not prompts:
            return own
        if own not in prompts:
            if len(prompts) == self._variants:
                return prompts[variant]
            raise DataError(
                self.dataset.folder, f"frame {frame}: data.prompts lacks its task {own!r}", episode
            )
        return prompts[prompts.index(own) // self._variants * self._variants + variant]

    def _actions(self, episode: int, frame: int, variant: int, state: np.ndarray) -> np.ndarray:
        """[H, D] in the model's normalised space."""
        numbers, horizon = self._episode(episode), self._config.action_horizon
        if self.recipe.chunks is not None:
            chunks = numbers[self.recipe.chunks][frame]
            chunk = (chunks[variant] if self.recipe.prompts else chunks)[:horizon]
        else:
            actions = numbers[self.recipe.columns.action]
            chunk = actions[np.minimum(frame + np.arange(horizon), len(actions) - 1)]
        chunk = chunk.astype(np.float64)
        made = self._reader.to_model(chunk, state)
        if not np.isfinite(made.astype(np.float32)).all():
            raise DataError(self.dataset.folder, f"frame {frame}: an action is not finite", episode)
        return made

    def _padded(self, actions: np.ndarray) -> np.ndarray:
        width = self._config.action_dim if self._fast is not None else self.recipe.shape.action_dim
        padded = np.zeros((len(actions), width), np.float32)
        padded[:, : actions.shape[1]] = actions[:, :width]
        return padded

    def _subtask(self, episode: int, frame: int, variant: int, task: str) -> Text:
        recipe = self.recipe
        assert recipe.subtask is not None
        if recipe.subtask_texts:
            words = self._numbered_subtask(episode, frame, variant)
        else:
            words = self.dataset.texts(episode)[recipe.subtask][frame]
        return subtask_text(
            self._tokenizer, task, words, recipe.subtask_prompt, recipe.subtask_length
        )

    def _numbered_subtask(self, episode: int, frame: int, variant: int) -> str:
        recipe = self.recipe
        numbers = np.atleast_1d(self._episode(episode)[recipe.subtask or ""][frame])
        number = int(numbers[variant if len(numbers) > 1 else 0])
        if not 0 <= number < len(recipe.subtask_texts):
            raise DataError(
                self.dataset.folder,
                f"frame {frame}: {recipe.subtask} is {number}, and data.subtask_texts has "
                f"{len(recipe.subtask_texts)} texts, counted from 0",
                episode,
            )
        return recipe.subtask_texts[number]

    def _episode(self, episode: int) -> Mapping[str, np.ndarray]:
        """Every number that samples need of an episode.

        They are kept: all numbers of a dataset are small beside its images.
        """
        found = self._numbers.get(episode)
        if found is None:
            found = self._numbers[episode] = self.dataset.numbers(episode, self._keys)
        return found

    @cached_property
    def _keys(self) -> list[str]:
        recipe = self.recipe
        keys = [recipe.columns.action, *(part.column for part in recipe.columns.state)]
        keys += recipe.labels.names if recipe.labels is not None else []
        keys += [recipe.chunks] if recipe.chunks is not None else []
        keys += [recipe.subtask] if recipe.subtask is not None and recipe.subtask_texts else []
        return list(dict.fromkeys(keys))

    @cached_property
    def _variants(self) -> int:
        recipe = self.recipe
        if not recipe.prompts or recipe.chunks is None:
            return 1
        return int(self.dataset.features[recipe.chunks].shape[0])

    @cached_property
    def _pictures(self) -> dict[str, tuple[int, int]]:
        """Height and width of each slot's picture in the dataset."""
        columns = self.recipe.columns.cameras
        paths = {camera.slot: camera.path for camera in self._config.robot.cameras}
        shapes = {
            slot: self.dataset.features[columns[paths[slot]]].shape for slot in self.recipe.cameras
        }
        return {slot: (shape[0], shape[1]) for slot, shape in shapes.items()}

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

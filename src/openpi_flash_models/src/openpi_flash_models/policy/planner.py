"""The planner: what the robot should do next, in words. Needs no model framework."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from openpi_flash_models.model.inputs import CAMERAS, IMAGE_SIZE, ModelInputs
from openpi_flash_models.model.packing import lengths_from, pack, sized
from openpi_flash_models.policy.model_protocols import TokenModel
from openpi_flash_models.robots.robot import CameraInput, Robot
from openpi_flash_models.text.prompts import planner_prompt
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.images import resize_with_pad

PROMPT_SLOTS = 200
MissingCameras = Literal["masked", "attended"]


@dataclass(frozen=True)
class Subtask:
    """What to do next.

    Attributes:
        text: in words; empty if the model ended at once, never because something failed.
        ms: from pictures to words.
    """

    text: str
    ms: float


@dataclass(frozen=True)
class PlannerOptions:
    """How subtasks are made.

    Attributes:
        prompt_format: holds ``{task}``.
        missing_cameras: ``masked`` as in the action models' training; ``attended`` shows the model
            mid-gray pictures instead, as openpi-flash does.
    """

    prompt_format: str = "Task: {task}. Subtask: "
    missing_cameras: MissingCameras = "masked"


class SubtaskPlanner:
    """Decodes subtasks with a pi0.5 checkpoint's language expert.

    Args:
        model: says ids that ``allowed_words`` allows.
        tokenizer: PaliGemma's.
        robot: whose requests it reads; None: images lie under ``images`` by the model's own names.
        options: how.
    """

    def __init__(
        self,
        model: TokenModel,
        tokenizer: PaligemmaTokenizer,
        robot: Robot | None,
        options: PlannerOptions = PlannerOptions(),
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._robot = robot if robot is not None else _ANY_ROBOT
        self._options = options

    def plan(self, observation: Mapping[str, Any], *, prompt: str) -> Subtask:
        """Say what to do next.

        Args:
            observation: a request of the robot; its state is not read.
            prompt: the task.

        Raises:
            ObservationError: an image is missing or none.
        ModelOutputError: the model's numbers are not finite.
        """
        started = time.perf_counter()
        ids = self._say(self.model_inputs(observation, prompt=prompt))
        text = self._tokenizer.decode(ids)
        return Subtask(text, (time.perf_counter() - started) * 1000)

    def warm_up(self) -> None:
        """Compile the model for every number of cameras and prompt that service may see."""
        example = self.model_inputs(self._robot.example_observation(), prompt="a")
        buckets = self._model.token_buckets
        if buckets is None:
            self._model.generate(example)
            return
        slots = np.shape(example.image_mask)[1]
        required = sum(camera.required for camera in self._robot.cameras)
        attend_all = self._options.missing_cameras == "attended"
        shortest = int(np.asarray(example.token_mask).sum())
        for cameras in range(slots if attend_all else max(1, required), slots + 1):
            for length in lengths_from(shortest, buckets, PROMPT_SLOTS):
                self._say(sized(example, cameras, length))

    def model_inputs(self, observation: Mapping[str, Any], *, prompt: str) -> ModelInputs:
        """What the model sees and reads."""
        found = self._robot.read_images(observation)
        attend_all = self._options.missing_cameras == "attended"
        slots = CAMERAS if attend_all else [camera.slot for camera in self._robot.cameras]
        images = np.zeros((len(slots), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for i, slot in enumerate(slots):
            if slot in found:
                images[i] = resize_with_pad(found[slot], IMAGE_SIZE, IMAGE_SIZE)
        if attend_all:
            is_there = np.array([slot in found for slot in slots])[:, None, None, None]
            scaled = images / np.float32(127.5) - np.float32(1.0)
            images = np.where(is_there, scaled, np.float32(0.0))  # zero is between two levels
        tokens = self._tokenizer.encode(
            planner_prompt(prompt, self._options.prompt_format), PROMPT_SLOTS
        )
        return ModelInputs(
            images=images[None],
            image_mask=np.array([[attend_all or slot in found for slot in slots]]),
            tokens=tokens.ids[None],
            token_mask=tokens.mask[None],
        )

    def _say(self, inputs: ModelInputs) -> np.ndarray:
        if self._model.token_buckets is not None:
            inputs = pack(inputs, self._model.token_buckets)
        return self._model.generate(inputs)[0]


def allowed_words(tokenizer: PaligemmaTokenizer, vocabulary: int) -> np.ndarray:
    """[vocabulary] bool: what a subtask may be made of."""
    allowed = np.zeros(vocabulary, bool)
    allowed[: tokenizer.vocabulary_size] = tokenizer.printable
    return allowed


_ANY_ROBOT = Robot(
    name="any",
    cameras=tuple(CameraInput(("images", name), name, required=False) for name in CAMERAS),
    state=(),
    action_names=(),
    control_hz=1.0,
)

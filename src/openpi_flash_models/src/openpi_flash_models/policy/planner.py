"""The planner: generates the next subtask in words. Needs no model framework.

It is the high-level policy of pi0.5 (arXiv 2504.16054, section IV), with the prompt format of
Hebbian's openpi-flash (``subtask_generator.py``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.model.inputs import CAMERAS, ModelInputs
from openpi_flash_models.model.packing import lengths_from, pack, sized
from openpi_flash_models.policy.model_protocols import Turn, TurnTakingModel, at_once
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
        ms: of the call, from images to text.
    """

    text: str
    ms: float


@dataclass(frozen=True)
class PlannerOptions:
    """How subtasks are generated.

    Attributes:
        prompt_format: holds ``{task}``.
        missing_cameras: ``masked`` as in the action models' training; ``attended`` gives the model
            mid-gray images instead, as Hebbian's openpi-flash does.
    """

    prompt_format: str = "Task: {task}. Subtask: "
    missing_cameras: MissingCameras = "masked"


class SubtaskPlanner:
    """Decodes subtasks with a pi0.5 checkpoint's language expert.

    Args:
        model: generates ids that ``allowed_words`` allows.
        tokenizer: PaliGemma's.
        robot: the robot whose requests it reads; None: images are under ``images``, by the
            model's own names.
        options: see the class.
        checkpoint: which weights answer, for metadata.
    """

    def __init__(
        self,
        model: TurnTakingModel,
        tokenizer: PaligemmaTokenizer,
        robot: Robot | None,
        options: PlannerOptions = PlannerOptions(),
        *,
        checkpoint: CheckpointIdentity | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self._model = model
        self._tokenizer = tokenizer
        self._robot = robot if robot is not None else _ANY_ROBOT
        self._options = options

    def plan(
        self, observation: Mapping[str, Any], *, prompt: str, prompt_format: str | None = None
    ) -> Subtask:
        """Generate the next subtask.

        Args:
            observation: a request of the robot; its state is not read.
            prompt: the task.
            prompt_format: holds ``{task}``; None: that of the options.

        Raises:
            ObservationError: an image is missing, or cannot be used.
            ModelOutputError: the model's logits are not finite.
        """
        return self.plan_in_turns(
            observation, prompt=prompt, prompt_format=prompt_format, turn=at_once
        )

    def plan_in_turns(
        self,
        observation: Mapping[str, Any],
        *,
        prompt: str,
        turn: Turn,
        prompt_format: str | None = None,
    ) -> Subtask:
        """As ``plan``; runs each program of the model in a ``turn`` of its own."""
        started = time.perf_counter()
        if self._robot is _ANY_ROBOT:
            _refuse_unread_images(observation)
        inputs = self.model_inputs(observation, prompt=prompt, prompt_format=prompt_format)
        ids = self._generate(inputs, turn)
        text = self._tokenizer.decode(ids)
        return Subtask(text, (time.perf_counter() - started) * 1000)

    def warm_up(self) -> None:
        """Compile the model for every number of cameras and prompt length in use."""
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
                self._generate(sized(example, cameras, length))

    def model_inputs(
        self, observation: Mapping[str, Any], *, prompt: str, prompt_format: str | None = None
    ) -> ModelInputs:
        """The model's inputs: images and prompt."""
        found = self._robot.read_images(observation)
        attend_all = self._options.missing_cameras == "attended"
        slots = CAMERAS if attend_all else [camera.slot for camera in self._robot.cameras]
        side = self._model.shape.image_size
        images = np.zeros((len(slots), side, side, 3), np.uint8)
        for i, slot in enumerate(slots):
            if slot in found:
                images[i] = resize_with_pad(found[slot], side, side)
        if attend_all:
            is_there = np.array([slot in found for slot in slots])[:, None, None, None]
            scaled = images / np.float32(127.5) - np.float32(1.0)
            images = np.where(is_there, scaled, np.float32(0.0))  # mid-gray
        chosen = self._options.prompt_format if prompt_format is None else prompt_format
        tokens = self._tokenizer.encode(planner_prompt(prompt, chosen), PROMPT_SLOTS)
        return ModelInputs(
            images=images[None],
            image_mask=np.array([[attend_all or slot in found for slot in slots]]),
            tokens=tokens.ids[None],
            token_mask=tokens.mask[None],
        )

    def _generate(self, inputs: ModelInputs, turn: Turn = at_once) -> np.ndarray:
        if self._model.token_buckets is not None:
            inputs = pack(inputs, self._model.token_buckets)
        return self._model.generate(inputs, turn)[0]


def _refuse_unread_images(observation: Mapping[str, Any]) -> None:
    """Refuse images under other names than the model's own, which a planner without a robot needs.

    They would be ignored otherwise.
    """
    for key, value in observation.items():
        if getattr(value, "ndim", 0) == 3:
            names = ", ".join("/".join(camera.path) for camera in _ANY_ROBOT.cameras)
            raise ObservationError(
                key,
                f"without planner.robot the planner reads only {names}; set planner.robot, or "
                "send images under these keys",
            )


def allowed_words(tokenizer: PaligemmaTokenizer, vocabulary: int) -> np.ndarray:
    """[vocabulary] bool: the tokens that a subtask may be made of."""
    allowed = np.zeros(vocabulary, bool)
    allowed[: tokenizer.vocabulary_size] = tokenizer.printable
    return allowed


_ANY_ROBOT = Robot(
    name="any",
    cameras=tuple(CameraInput(("images", name), name, required=False) for name in CAMERAS),
    state=(),
    actions=(),
    control_hz=1.0,
)

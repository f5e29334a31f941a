"""The planner: what the robot should do next, in words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.inputs import CAMERAS, IMAGE_SIZE, ModelInputs
from openpi_flash_models.jax_models import pi05, subtask_decode
from openpi_flash_models.prompts import planner_prompt
from openpi_flash_models.robots.robot import CameraInput, Robot
from openpi_flash_models.tokenizer import EOS_ID, PaligemmaTokenizer
from openpi_flash_models.transforms.images import resize_with_pad

PROMPT_SLOTS = 200


@dataclass(frozen=True)
class Subtask:
    """What to do next.

    Attributes:
        text: in words; empty if the model has nothing to say.
        ms: from pictures to words.
    """

    text: str
    ms: float


@dataclass(frozen=True)
class PlannerOptions:
    """How subtasks are made.

    Attributes:
        max_tokens: the longest subtask.
        prompt_format: holds ``{task}``.
        missing_cameras: ``masked`` as in the action models' training; ``attended`` shows the model
            mid-gray pictures instead, as openpi-flash does.
    """

    max_tokens: int = 20
    prompt_format: str = "Task: {task}. Subtask: "
    missing_cameras: Literal["masked", "attended"] = "masked"


class SubtaskPlanner:
    """Decodes subtasks with a pi0.5 checkpoint's language expert.

    Args:
        params: the checkpoint's tree, on the device.
        tokenizer: PaliGemma's.
        robot: whose requests it reads; None: images lie under ``images`` by the model's own names.
        options: how.
    """

    def __init__(
        self,
        params: pi05.Params,
        tokenizer: PaligemmaTokenizer,
        robot: Robot | None,
        options: PlannerOptions = PlannerOptions(),
    ) -> None:
        self._params = params
        self._tokenizer = tokenizer
        self._robot = robot if robot is not None else _ANY_ROBOT
        self._options = options
        allowed = np.zeros(params["PaliGemma"]["llm"]["embedder"]["input_embedding"].shape[0], bool)
        allowed[: tokenizer.vocabulary_size] = tokenizer.printable
        self._head = subtask_decode.cut_head(params, jnp.asarray(allowed))

    def plan(self, observation: Mapping[str, Any], *, prompt: str) -> Subtask:
        """Say what to do next.

        Args:
            observation: a request of the robot; its state is not read.
            prompt: the task.

        Raises:
            ObservationError: an image is missing or none.
        """
        started = time.perf_counter()
        ids = self._decode(self.model_inputs(observation, prompt=prompt))
        text = self._tokenizer.decode(ids)
        return Subtask(text, (time.perf_counter() - started) * 1000)

    def warm_up(self) -> None:
        """Compile the model for this robot's shapes."""
        self.plan(self._robot.example_observation(), prompt="warm up")

    def model_inputs(self, observation: Mapping[str, Any], *, prompt: str) -> ModelInputs:
        """What the model sees and reads."""
        found = self._robot.read_images(observation)
        attend_all = self._options.missing_cameras == "attended"
        slots = CAMERAS if attend_all else [camera.slot for camera in self._robot.cameras]
        images = np.zeros((len(slots), IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
        for i, slot in enumerate(slots):
            if slot in found:
                pixels = resize_with_pad(found[slot], IMAGE_SIZE, IMAGE_SIZE)
                images[i] = pixels / np.float32(127.5) - 1.0
        tokens = self._tokenizer.encode(
            planner_prompt(prompt, self._options.prompt_format), PROMPT_SLOTS
        )
        return ModelInputs(
            images=images[None],
            image_mask=np.array([[attend_all or slot in found for slot in slots]]),
            tokens=tokens.ids[None],
            token_mask=tokens.mask[None],
        )

    def _decode(self, inputs: ModelInputs) -> np.ndarray:
        ids = subtask_decode.decode_subtask(
            self._params,
            self._head,
            inputs,
            jnp.int32(EOS_ID),
            max_tokens=self._options.max_tokens,
        )
        return np.asarray(jax.device_get(ids))[0]


_ANY_ROBOT = Robot(
    name="any",
    cameras=tuple(CameraInput(("images", name), name, required=False) for name in CAMERAS),
    state=(),
    action_names=(),
    control_hz=1.0,
)

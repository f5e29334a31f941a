"""Converts requests to a model's inputs, and a model's actions to a robot's units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from openpi_flash_models.actions.rtc import RtcControls
from openpi_flash_models.config.named_configs import InferenceConfig
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.policy.action_units import ActionUnits
from openpi_flash_models.robots.robot_input import RobotInput
from openpi_flash_models.text.prompts import action_prompt, fast_prompt
from openpi_flash_models.text.task import task_of
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.arrays import parse_numbers
from openpi_flash_models.transforms.images import resize_with_pad
from openpi_flash_models.transforms.norm_stats import NormStats
from openpi_flash_models.transforms.normalize import Normalization, normalize


class ObservationReader:
    """The transforms of one robot and one checkpoint, in openpi's order.

    Args:
        config: names the robot and the formats.
        shape: of the model.
        stats: the checkpoint's statistics for this robot.
        tokenizer: PaliGemma's.
        default_prompt: the task of requests that name none.
        normalization: how state and actions are scaled; None: as openpi does for the model.
    """

    def __init__(
        self,
        config: InferenceConfig,
        shape: ModelShape,
        stats: NormStats,
        tokenizer: PaligemmaTokenizer,
        default_prompt: str | None,
        *,
        normalization: Normalization | None = None,
    ) -> None:
        self._config = config
        self._shape = shape
        self._stats = stats
        self._tokenizer = tokenizer
        self._default_prompt = default_prompt
        self._scaled = normalization or Normalization(config.scaling, config.scaling)
        self._actions = ActionUnits(
            config.robot, config.delta_mask, stats.actions, self._scaled.actions
        )

    @property
    def can_read_actions(self) -> bool:
        """Whether actions in the robot's units can be converted to the model's."""
        return self._actions.can_reach_model

    @property
    def inputs(self) -> tuple[RobotInput, ...]:
        """What a request holds. The task may be left out where there is a default."""
        defaults = (self._default_prompt, self._config.default_prompt)
        needed = not any(default and default.strip() for default in defaults)
        side = self._shape.image_size
        cameras = {camera.path: camera for camera in self._config.robot.cameras}

        def described(given: RobotInput) -> RobotInput:
            if given.kind == "text":
                return replace(given, required=needed)
            if given.kind == "image":
                return replace(given, shape=cameras[given.path].shape_for(side))
            return given

        return tuple(map(described, self._config.robot.inputs))

    def model_inputs(self, observation: Mapping[str, Any], state: np.ndarray) -> ModelInputs:
        """A batch of one, with every camera slot and every prompt slot.

        Args:
            observation: a request.
            state: [S] in the model's space, not normalised.

        Raises:
            ObservationError: names what cannot be used.
        """
        slots, seen_blank = self._config.cameras, self._config.blank_cameras_seen
        found = self._config.robot.read_images(observation)
        side = self._shape.image_size
        images = np.zeros((1, len(slots), side, side, 3), np.uint8)
        for i, slot in enumerate(slots):
            if slot in found:
                images[0, i] = resize_with_pad(found[slot], side, side)
        prompt = task_of(observation, self._default_prompt, self._config.default_prompt)
        normalised = normalize(state, self._stats.state, self._scaled.state)
        self._refuse_overflow(normalised)
        ids, mask = self._words(prompt, normalised)
        return ModelInputs(
            images=images,
            image_mask=np.array([[seen_blank or slot in found for slot in slots]]),
            tokens=ids,
            token_mask=mask,
            state=self._padded(normalised) if self._shape.kind == "pi0" else None,
        )

    def to_robot(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The model's actions [H, A] in the robot's units [H, D], float64."""
        return self._actions.to_robot(actions, state)

    def to_model(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The robot's actions [H, D] in the model's normalised space: the inverse of `to_robot`.

        Raises:
            ValueError: the robot has no ``actions_to_model``.
        """
        return self._actions.to_model(actions, state)

    def previous_actions(self, controls: RtcControls, state: np.ndarray) -> np.ndarray:
        """The previous chunk of a request [n, D], see `to_model`.

        Raises:
            ObservationError: the request's ``rtc`` cannot be used.
        """
        robot = self._config.robot
        given = parse_numbers(controls.previous_actions, "rtc/previous_actions")
        actions = given.astype(np.float64)
        if not self.can_read_actions:
            raise ObservationError("rtc", f"the robot {robot.name} has no actions_to_model")
        width = len(robot.action_names)
        if actions.ndim != 2 or actions.shape[1] != width or not len(actions):
            raise ObservationError(
                "rtc/previous_actions",
                f"expected shape [n, {width}] with n at least 1, got {list(actions.shape)}",
            )
        horizon = self._config.action_horizon
        if not 0 <= controls.delay <= horizon:
            raise ObservationError("rtc/delay", f"expected 0 to {horizon}, got {controls.delay}")
        executed = controls.execution_horizon
        if executed is not None and not 0 <= executed <= horizon:
            raise ObservationError(
                "rtc/execution_horizon", f"expected 0 to {horizon}, got {executed}"
            )
        normalised = self.to_model(actions, state)
        too_far = np.abs(normalised) > np.finfo(np.float32).max
        if too_far.any():
            step, number = np.unravel_index(int(np.argmax(too_far)), too_far.shape)
            raise ObservationError(
                "rtc/previous_actions",
                f"step {step}, number {number} ({robot.action_names[number]}) is "
                f"{actions[step, number]:.3g}, too far from the training data to be scaled",
            )
        return normalised

    def _words(self, prompt: str, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        config = self._config
        if self._shape.kind == "pi0_fast":
            text, newline_after = fast_prompt(prompt, state), False
        else:
            text = action_prompt(prompt, state if config.state_in_prompt else None)
            newline_after = not config.state_in_prompt
        tokens = self._tokenizer.encode(text, config.max_token_len, newline_after=newline_after)
        return tokens.ids[None], tokens.mask[None]

    def _padded(self, state: np.ndarray) -> np.ndarray:
        width = self._shape.action_dim
        padded = np.zeros((1, width), np.float32)
        padded[0, : len(state)] = state[:width]
        return padded

    def _refuse_overflow(self, normalised: np.ndarray) -> None:
        """Refuse a state that scaling makes too large for float32."""
        if np.isfinite(normalised.astype(np.float32)).all():
            return
        number = int(np.argmax(~np.isfinite(normalised.astype(np.float32))))
        for part in self._config.robot.state:
            if number < part.size:
                break
            number -= part.size
        raise ObservationError(
            part.name, f"number {number} is too far from the training data to be scaled"
        )

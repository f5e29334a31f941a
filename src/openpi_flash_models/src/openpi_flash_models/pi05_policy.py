"""pi0.5 as a policy: robot, normalisation, tokenizer and model, in openpi's order.

in   images, state, prompt of a request -> robot's model space -> normalise -> resize -> tokens
out  actions [H, A] -> unnormalise -> absolute -> the robot's own units
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.configs import InferenceConfig
from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_models.inputs import IMAGE_SIZE, ModelInputs
from openpi_flash_models.jax_models import pi05
from openpi_flash_models.norm_stats import NormStats
from openpi_flash_models.policy import (
    DEFAULT_CONTROLS,
    ActionResult,
    ImageSpec,
    InferenceControls,
    PolicySpec,
)
from openpi_flash_models.prompts import action_prompt
from openpi_flash_models.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.delta import absolute_actions
from openpi_flash_models.transforms.images import resize_with_pad
from openpi_flash_models.transforms.normalize import normalize_quantile, unnormalize_quantile

DEFAULT_STEPS = 10
MAX_STEPS = 200


class Pi05Policy:
    """pi0.5 in JAX behind a robot's transforms. Safe to call from several threads.

    Args:
        config: names the robot and the formats.
        params: the checkpoint's tree, on the device.
        stats: the checkpoint's statistics for this robot.
        tokenizer: PaliGemma's.
        default_prompt: the task of requests that name none.
    """

    def __init__(
        self,
        config: InferenceConfig,
        params: pi05.Params,
        stats: NormStats,
        tokenizer: PaligemmaTokenizer,
        default_prompt: str | None = None,
    ) -> None:
        self._config = config
        self._params = params
        self._stats = stats
        self._tokenizer = tokenizer
        self._default_prompt = default_prompt
        self._model_action_dim = int(params["action_in_proj"]["kernel"].shape[0])
        self._noise = np.random.default_rng(0)
        self._noise_lock = threading.Lock()

    @property
    def spec(self) -> PolicySpec:
        """What clients need to know."""
        robot = self._config.robot
        return PolicySpec(
            model="pi05",
            robot=robot.name,
            action_horizon=self._config.action_horizon,
            action_dim=len(robot.action_names),
            action_rate_hz=robot.control_hz,
            action_names=robot.action_names,
            image_specs=tuple(ImageSpec(camera.path, camera.shape) for camera in robot.cameras),
            metadata=self._config.metadata,
        )

    def infer(
        self, observation: Mapping[str, Any], controls: InferenceControls = DEFAULT_CONTROLS
    ) -> ActionResult:
        """Answer one observation.

        Raises:
            ObservationError: the observation or a control cannot be used; names it.
            ModelOutputError: the model's actions are not finite.
        """
        state = self._config.robot.read_state(observation)
        inputs = self._model_inputs(observation, state)
        noise = self._draw_noise(controls)
        num_steps = _checked_steps(controls.num_steps)
        started = time.perf_counter()
        sampled = pi05.sample_actions(self._params, inputs, noise, jnp.int32(num_steps))
        actions = np.asarray(jax.device_get(sampled))[0]
        infer_ms = (time.perf_counter() - started) * 1000
        if not np.isfinite(actions).all():
            raise ModelOutputError("the model's actions are not finite")
        return ActionResult(self._to_robot(actions, state), infer_ms)

    def warm_up(self) -> None:
        """Compile the model for this robot's shapes: there is one program, for any prompt."""
        self.infer(self._config.robot.example_observation(), InferenceControls(seed=0))

    def _model_inputs(self, observation: Mapping[str, Any], state: np.ndarray) -> ModelInputs:
        robot, config = self._config.robot, self._config
        found = robot.read_images(observation)
        blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        # A camera that the robot never has is left out, which changes nothing: its tokens would
        # be masked and take no positions. One that may be missing keeps its place.
        slots = [camera.slot for camera in robot.cameras]
        images = [
            resize_with_pad(found[slot], IMAGE_SIZE, IMAGE_SIZE) if slot in found else blank
            for slot in slots
        ]
        prompt = self._prompt(observation)
        normalised = normalize_quantile(state, self._stats.state)
        words = action_prompt(prompt, normalised if config.discrete_state_input else None)
        tokens = self._tokenizer.encode(
            words, config.max_token_len, newline_after=not config.discrete_state_input
        )
        return ModelInputs(
            images=np.stack(images)[None],
            image_mask=np.array([[slot in found for slot in slots]]),
            tokens=tokens.ids[None],
            token_mask=tokens.mask[None],
        )

    def _prompt(self, observation: Mapping[str, Any]) -> str:
        prompt = observation.get("prompt")
        if isinstance(prompt, np.ndarray) and prompt.ndim == 0:
            prompt = prompt.item()
        if isinstance(prompt, bytes):
            prompt = prompt.decode("utf-8", errors="replace")
        if prompt is None:
            prompt = self._default_prompt
        if prompt is None:
            raise ObservationError("prompt", "missing, and the server has no default_prompt")
        if not isinstance(prompt, str):
            raise ObservationError("prompt", f"expected text, got {type(prompt).__name__}")
        return prompt

    def _draw_noise(self, controls: InferenceControls) -> np.ndarray:
        shape = (self._config.action_horizon, self._model_action_dim)
        if controls.noise is not None:
            noise = np.asarray(controls.noise, np.float32)
            if noise.shape not in (shape, (1, *shape)):
                raise ObservationError(
                    "noise", f"expected shape {list(shape)}, got {list(noise.shape)}"
                )
            if not np.isfinite(noise).all():
                raise ObservationError("noise", "holds a value that is not finite")
            return noise.reshape(1, *shape)
        if controls.seed is not None:
            return _normal(np.random.default_rng(controls.seed), shape)
        with self._noise_lock:
            return _normal(self._noise, shape)

    def _to_robot(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        result = unnormalize_quantile(actions.astype(np.float64), self._stats.actions)
        result = absolute_actions(result, state, self._config.delta_mask)
        robot = self._config.robot
        return robot.actions_to_robot(result[:, : len(robot.action_names)])


def _normal(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return generator.standard_normal((1, *shape), dtype=np.float32)


def _checked_steps(num_steps: int | None) -> int:
    if num_steps is None:
        return DEFAULT_STEPS
    if not 1 <= num_steps <= MAX_STEPS:
        raise ObservationError("num_steps", f"expected 1 to {MAX_STEPS}, got {num_steps}")
    return num_steps

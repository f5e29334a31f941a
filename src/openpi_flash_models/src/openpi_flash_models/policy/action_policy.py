"""pi0, pi0-FAST and pi0.5 as policies: robot, normalisation, tokenizer and model.

The order of the transforms is openpi's (``policies/policy_config.py``):

in   images, state, prompt of a request -> robot's model space -> normalise -> resize -> tokens
out  actions [H, A] -> unnormalise -> absolute -> the robot's own units
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.actions.malformed import (
    MalformedTokens,
    Substitute,
    check_malformed_tokens,
    held_actions,
)
from openpi_flash_models.actions.rtc import (
    DEFAULT_RTC,
    Guidance,
    RtcOptions,
    guidance_of,
    no_guidance,
)
from openpi_flash_models.actions.tokens import ActionDecoder
from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.config.named_configs import InferenceConfig
from openpi_flash_models.errors import ActionDecodeError, ModelOutputError, ObservationError
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.packing import (
    BATCH_BUCKETS,
    MAX_BATCH,
    fill_batch,
    join,
    lengths_from,
    pack,
    sized,
    take_rows,
)
from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS, ActionModel, TokenModel
from openpi_flash_models.policy.observation_reader import ObservationReader
from openpi_flash_models.policy.policy_protocol import (
    DEFAULT_CONTROLS,
    ActionResult,
    BatchAnswer,
    BatchRequest,
    ImageSpec,
    InferenceControls,
    PolicySpec,
)
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.arrays import parse_numbers
from openpi_flash_models.transforms.norm_stats import NormStats
from openpi_flash_models.transforms.normalize import Normalization

MAX_STEPS = 200
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Row:
    """One request, ready for the model.

    Attributes:
        inputs: a batch of one, with every slot.
        state: [S] in the model's space, not normalised.
        measured: [S] in the robot's own units.
        noise: [1, H, A]; None for a model that generates tokens.
        num_steps: of denoising.
        guidance: from the request's previous chunk; None without one.
    """

    inputs: ModelInputs
    state: np.ndarray
    measured: np.ndarray
    noise: np.ndarray | None
    num_steps: int
    guidance: Guidance | None

    @property
    def program(self) -> tuple[int, bool]:
        """What the requests of a call share: their steps, and whether frozen ones are known."""
        return self.num_steps, self.guidance is not None and self.guidance.is_prefix


class ModelPolicy:
    """A model behind a robot's transforms. Safe to call from several threads.

    Args:
        config: names the robot and the formats.
        model: of the config's family.
        stats: the checkpoint's statistics for this robot.
        tokenizer: PaliGemma's.
        default_prompt: the task of requests that name none.
        max_batch: most requests that ``infer_batch`` answers in one call of the model.
        rtc: how the previous chunk guides the new one; the model must have the same options.
            None: requests for it are refused.
        decoder: for pi0-FAST, from tokens to actions.
        normalization: how state and actions are scaled; None: as openpi does for the model.
        malformed_tokens: see ``actions/malformed.py``.
        checkpoint: which weights answer, for metadata.

    Raises:
        InferenceConfigError: the robot cannot do what ``malformed_tokens`` asks.
    """

    def __init__(
        self,
        config: InferenceConfig,
        model: ActionModel | TokenModel,
        stats: NormStats,
        tokenizer: PaligemmaTokenizer,
        default_prompt: str | None = None,
        *,
        max_batch: int = 1,
        rtc: RtcOptions | None = DEFAULT_RTC,
        decoder: ActionDecoder | None = None,
        normalization: Normalization | None = None,
        malformed_tokens: MalformedTokens = "error",
        checkpoint: CheckpointIdentity | None = None,
    ) -> None:
        if not 1 <= max_batch <= MAX_BATCH:
            raise ValueError(f"max_batch must be 1 to {MAX_BATCH}, got {max_batch}")
        if model.shape.kind == "pi0_fast" and decoder is None:
            raise ValueError("pi0-FAST needs a decoder of its tokens")
        check_malformed_tokens(malformed_tokens, config.robot)
        self.max_batch = max_batch
        self._config = config
        self._model = model
        self._reader = ObservationReader(
            config, model.shape, stats, tokenizer, default_prompt, normalization=normalization
        )
        self._malformed_tokens = malformed_tokens
        self._checkpoint = checkpoint
        self._rtc = rtc
        self._decoder = decoder
        self._noise = np.random.default_rng(0)
        self._noise_lock = threading.Lock()

    @property
    def spec(self) -> PolicySpec:
        """What clients need to know."""
        robot, kind = self._config.robot, self._model.shape.kind
        supports: tuple[str, ...] = ()
        if kind != "pi0_fast":
            supports = ("seed", "noise", "num_steps")
            if self._rtc is not None and self._reader.can_read_actions:
                supports = (*supports, "rtc")
                if self._config.trained_with_prefix:
                    supports = (*supports, "rtc_prefix")
        return PolicySpec(
            model=kind,
            robot=robot.name,
            action_horizon=self._config.action_horizon,
            action_dim=len(robot.action_names),
            action_rate_hz=robot.control_hz,
            actions=robot.actions,
            image_specs=tuple(ImageSpec(camera.path, camera.shape) for camera in robot.cameras),
            metadata=self._config.metadata,
            supports=supports,
            config=self._config.name,
            checkpoint=self._checkpoint,
            inputs=self._reader.inputs,
        )

    def infer(
        self, observation: Mapping[str, Any], controls: InferenceControls = DEFAULT_CONTROLS
    ) -> ActionResult:
        """Answer one observation.

        Raises:
            ObservationError: the observation or a control cannot be used; names it.
            ModelOutputError: the model's actions are not finite, or its tokens are no chunk.
        """
        (answer,) = self.infer_batch([(observation, controls)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def infer_batch(self, requests: Sequence[BatchRequest]) -> list[BatchAnswer]:
        """Answer each request, in calls of up to ``max_batch`` that run the same program."""
        answers: dict[int, BatchAnswer] = {}
        rows: dict[int, _Row] = {}
        for i, (observation, controls) in enumerate(requests):
            try:
                rows[i] = self._prepare(observation, controls)
            except ObservationError as error:
                answers[i] = error
        for program in sorted({row.program for row in rows.values()}):
            same = [i for i, row in rows.items() if row.program == program]
            for start in range(0, len(same), self.max_batch):
                group = same[start : start + self.max_batch]
                answers.update(zip(group, self._run([rows[i] for i in group]), strict=True))
        return [answers[i] for i in range(len(requests))]

    def warm_up(self) -> None:
        """Compile the model for every batch size, number of cameras and prompt length in use."""
        robot = self._config.robot
        example = self._prepare(robot.example_observation("a"), InferenceControls(seed=0))
        buckets = self._model.token_buckets
        cameras, lengths = [len(self._config.cameras)], [self._config.max_token_len]
        if buckets is not None:
            if not self._config.blank_cameras_seen:
                required = sum(camera.required for camera in robot.cameras)
                cameras = list(range(max(1, required), len(robot.cameras) + 1))
            # the shortest prompt: one letter, and a state of zeros
            shortest = int(np.asarray(example.inputs.token_mask).sum())
            lengths = lengths_from(shortest, buckets, self._config.max_token_len)
        examples = [example]
        supports = self.spec.supports
        guidance = self._example_guidance()
        if "rtc" in supports and self._model.prepares_rtc:  # type: ignore[union-attr]
            examples.append(dataclasses.replace(example, guidance=guidance))
        if "rtc_prefix" in supports:
            known = dataclasses.replace(guidance, is_prefix=True)
            examples.append(dataclasses.replace(example, guidance=known))
        for batch in (size for size in BATCH_BUCKETS if size < 2 * self.max_batch):
            for count in cameras:
                for length in lengths:
                    for row in examples:
                        inputs = sized(row.inputs, count, length)
                        self._compute([dataclasses.replace(row, inputs=inputs)] * batch)

    def _example_guidance(self) -> Guidance:
        shape = (1, self._config.action_horizon, self._model.shape.action_dim)
        frozen = np.arange(shape[1])[None] < 1
        weight = np.broadcast_to(frozen[..., None], shape).astype(np.float32)
        return Guidance(np.zeros(shape, np.float32), weight, frozen)

    def _prepare(self, observation: Mapping[str, Any], controls: InferenceControls) -> _Row:
        measured = self._config.robot.measured_state(observation)
        state = self._config.robot.state_to_model(measured)
        inputs = self._reader.model_inputs(observation, state)
        if self._model.shape.kind == "pi0_fast":
            if controls.rtc is not None:
                raise ObservationError("rtc", "pi0-FAST cannot continue a previous chunk")
            return _Row(inputs, state, measured, None, 1, None)
        guidance = None
        if controls.rtc is not None:
            if self._rtc is None:
                raise ObservationError("rtc", "is switched off, send the request without it")
            if controls.rtc.is_prefix and not self._config.trained_with_prefix:
                raise ObservationError(
                    "rtc/method",
                    "is 'prefix', which the checkpoint was not trained with; leave it out, or "
                    "set trained_with_prefix in the checkpoint's config if it was",
                )
            guidance = guidance_of(
                self._reader.previous_actions(controls.rtc, state),
                controls.rtc,
                self._rtc.schedule,
                horizon=self._config.action_horizon,
                action_dim=self._model.shape.action_dim,
            )
        steps = _checked_steps(controls.num_steps)
        return _Row(inputs, state, measured, self._draw_noise(controls), steps, guidance)

    def _run(self, rows: Sequence[_Row]) -> list[BatchAnswer]:
        started = time.perf_counter()
        output = self._compute(rows)
        infer_ms = (time.perf_counter() - started) * 1000
        answers: list[BatchAnswer] = []
        for row, made in zip(rows, output, strict=False):  # the batch may have been filled up
            try:
                actions, substitute = self._actions_of(row, made)
                answers.append(ActionResult(actions, infer_ms, len(rows), substitute))
            except ModelOutputError as error:
                answers.append(error)
        return answers

    def _compute(self, rows: Sequence[_Row]) -> np.ndarray:
        """The model's own output [B, ...], at least as many rows as given."""
        filled = fill_batch(len(rows))
        inputs = join([row.inputs for row in rows])
        if self._model.token_buckets is not None:
            inputs = pack(inputs, self._model.token_buckets)
        inputs = take_rows(inputs, filled)
        if self._model.shape.kind == "pi0_fast":
            return self._model.generate(inputs)  # type: ignore[union-attr]
        shape = (1, self._config.action_horizon, self._model.shape.action_dim)
        each = [row.guidance or no_guidance(*shape) for row in rows]
        target, weight, frozen = (
            np.concatenate([getattr(one, name) for one in each])[filled]
            for name in ("target", "weight", "frozen")
        )
        guidance = Guidance(target, weight, frozen, is_prefix=rows[0].program[1])
        noise = np.concatenate([row.noise for row in rows if row.noise is not None])[filled]
        return self._model.sample(  # type: ignore[union-attr]
            inputs, noise, rows[0].num_steps, guidance
        )

    def _actions_of(self, row: _Row, made: np.ndarray) -> tuple[np.ndarray, Substitute | None]:
        """The chunk [H, D] in the robot's units, and its substitute if it is not the model's."""
        robot, horizon = self._config.robot, self._config.action_horizon
        substitute = None
        if self._decoder is not None:
            try:
                made = self._decoder.decode(made, horizon, len(robot.action_names))
            except ActionDecodeError as error:
                if self._malformed_tokens == "error":
                    raise
                log.warning("%s; answered with %s", error, self._malformed_tokens)
                substitute = Substitute(self._malformed_tokens, str(error))
                if substitute.kind == "hold":
                    return held_actions(robot, row.measured, horizon), substitute
                made = np.zeros((horizon, len(robot.action_names)))
        refuse_not_finite(made)
        actions = self._reader.to_robot(made, row.state)
        refuse_not_finite(actions)
        return actions, substitute

    def _draw_noise(self, controls: InferenceControls) -> np.ndarray:
        shape = (self._config.action_horizon, self._model.shape.action_dim)
        if controls.noise is not None:
            noise = parse_numbers(controls.noise, "noise").astype(np.float32)
            if noise.shape not in (shape, (1, *shape)):
                raise ObservationError(
                    "noise", f"expected shape {list(shape)}, got {list(noise.shape)}"
                )
            return noise.reshape(1, *shape)
        if controls.seed is not None:
            return _normal(np.random.default_rng(controls.seed), shape)
        with self._noise_lock:
            return _normal(self._noise, shape)


def _normal(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return generator.standard_normal((1, *shape), dtype=np.float32)


def _checked_steps(num_steps: int | None) -> int:
    if num_steps is None:
        return DEFAULT_STEPS
    if not 1 <= num_steps <= MAX_STEPS:
        raise ObservationError("num_steps", f"expected 1 to {MAX_STEPS}, got {num_steps}")
    return num_steps

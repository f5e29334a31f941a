"""pi0, pi0-FAST and pi0.5 as policies: robot, normalisation, tokenizer and model.

The order of the transforms is openpi's (``policies/policy_config.py``):

in   images, state, prompt of a request -> robot's model space -> normalise -> resize -> tokens
out  actions [H, A] -> unnormalise -> absolute -> the robot's own units
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.actions.malformed import Substitute
from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.config.named_configs import InferenceConfig
from openpi_flash_models.errors import ModelOutputError, ObservationError
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
from openpi_flash_models.policy.action_kind import ActionKind
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
from openpi_flash_models.transforms.norm_stats import NormStats
from openpi_flash_models.transforms.normalize import Normalization


@dataclass(frozen=True, eq=False)
class _Row:
    """One request, ready for the model.

    Attributes:
        inputs: a batch of one, with every slot.
        state: [S] in the model's space, not normalised.
        measured: [S] in the robot's own units.
        sampling: the model's kind's.
        preprocess_ms: how long making all of this took.
    """

    inputs: ModelInputs
    state: np.ndarray
    measured: np.ndarray
    sampling: Any
    preprocess_ms: float = 0.0


class ModelPolicy:
    """A model behind a robot's transforms. Safe to call from several threads.

    Args:
        config: names the robot and the formats.
        actions: the model, of the config's kind.
        stats: the checkpoint's statistics for this robot.
        tokenizer: PaliGemma's.
        default_prompt: the task of requests that name none.
        max_batch: most requests that ``infer_batch`` answers in one call of the model.
        normalization: how state and actions are scaled; None: as openpi does for the model.
        checkpoint: which weights answer, for metadata.
    """

    def __init__(
        self,
        config: InferenceConfig,
        actions: ActionKind,
        stats: NormStats,
        tokenizer: PaligemmaTokenizer,
        default_prompt: str | None = None,
        *,
        max_batch: int = 1,
        normalization: Normalization | None = None,
        checkpoint: CheckpointIdentity | None = None,
    ) -> None:
        if not 1 <= max_batch <= MAX_BATCH:
            raise ValueError(f"max_batch must be 1 to {MAX_BATCH}, got {max_batch}")
        self.max_batch = max_batch
        self._config = config
        self._actions = actions
        self._reader = ObservationReader(
            config, actions.shape, stats, tokenizer, default_prompt, normalization=normalization
        )
        self._checkpoint = checkpoint

    @property
    def spec(self) -> PolicySpec:
        """What clients need to know."""
        robot, side = self._config.robot, self._actions.shape.image_size
        return PolicySpec(
            model=self._actions.shape.kind,
            robot=robot.name,
            action_horizon=self._config.action_horizon,
            action_dim=len(robot.action_names),
            action_rate_hz=robot.control_hz,
            actions=robot.actions,
            image_specs=tuple(
                ImageSpec(camera.path, camera.shape_for(side)) for camera in robot.cameras
            ),
            metadata=self._config.metadata,
            supports=self._actions.supports(self._reader),
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
            started = time.perf_counter()
            try:
                row = self._prepare(observation, controls)
                preprocess_ms = (time.perf_counter() - started) * 1000
                rows[i] = dataclasses.replace(row, preprocess_ms=preprocess_ms)
            except ObservationError as error:
                answers[i] = error
        programs = {i: self._actions.program(row.sampling) for i, row in rows.items()}
        for program in sorted(set(programs.values())):
            same = [i for i, other in programs.items() if other == program]
            for start in range(0, len(same), self.max_batch):
                group = same[start : start + self.max_batch]
                answers.update(zip(group, self._run([rows[i] for i in group]), strict=True))
        return [answers[i] for i in range(len(requests))]

    def warm_up(self) -> None:
        """Compile the model for every batch size, number of cameras and prompt length in use."""
        robot = self._config.robot
        example = self._prepare(robot.example_observation("a"), InferenceControls(seed=0))
        buckets = self._actions.token_buckets
        cameras, lengths = [len(self._config.cameras)], [self._config.max_token_len]
        if buckets is not None:
            if not self._config.blank_cameras_seen:
                required = sum(camera.required for camera in robot.cameras)
                cameras = list(range(max(1, required), len(robot.cameras) + 1))
            # the shortest prompt: one letter, and a state of zeros
            shortest = int(np.asarray(example.inputs.token_mask).sum())
            lengths = lengths_from(shortest, buckets, self._config.max_token_len)
        samplings = self._actions.examples(example.sampling, self._reader)
        for batch in (size for size in BATCH_BUCKETS if size < 2 * self.max_batch):
            for count in cameras:
                for length in lengths:
                    for sampling in samplings:
                        inputs = sized(example.inputs, count, length)
                        row = dataclasses.replace(example, inputs=inputs, sampling=sampling)
                        self._compute([row] * batch)

    def _prepare(self, observation: Mapping[str, Any], controls: InferenceControls) -> _Row:
        measured = self._config.robot.measured_state(observation)
        state = self._config.robot.state_to_model(measured)
        inputs = self._reader.model_inputs(observation, state)
        return _Row(inputs, state, measured, self._actions.sampling(controls, state, self._reader))

    def _run(self, rows: Sequence[_Row]) -> list[BatchAnswer]:
        started = time.perf_counter()
        output = self._compute(rows)
        infer_ms = (time.perf_counter() - started) * 1000
        answers: list[BatchAnswer] = []
        for row, made in zip(rows, output, strict=False):  # the batch may have been filled up
            try:
                began = time.perf_counter()
                actions, substitute = self._actions_of(row, made)
                postprocess_ms = (time.perf_counter() - began) * 1000
                answers.append(
                    ActionResult(
                        actions,
                        infer_ms,
                        len(rows),
                        substitute,
                        preprocess_ms=row.preprocess_ms,
                        postprocess_ms=postprocess_ms,
                    )
                )
            except ModelOutputError as error:
                answers.append(error)
        return answers

    def _compute(self, rows: Sequence[_Row]) -> np.ndarray:
        """The model's own output [B, ...], at least as many rows as given."""
        filled = fill_batch(len(rows))
        inputs = join([row.inputs for row in rows])
        if self._actions.token_buckets is not None:
            inputs = pack(inputs, self._actions.token_buckets)
        inputs = take_rows(inputs, filled)
        return self._actions.compute(inputs, [row.sampling for row in rows], filled)

    def _actions_of(self, row: _Row, made: np.ndarray) -> tuple[np.ndarray, Substitute | None]:
        """The chunk [H, D] in the robot's units, and its substitute if it is not the model's."""
        actions, substitute = self._actions.actions(made, row.state, row.measured, self._reader)
        refuse_not_finite(actions)
        return actions, substitute

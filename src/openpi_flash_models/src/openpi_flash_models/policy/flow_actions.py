"""Actions by flow matching: pi0 and pi0.5 make them of noise in a number of steps."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.actions.malformed import Substitute
from openpi_flash_models.actions.rtc import (
    DEFAULT_RTC,
    Guidance,
    RtcControls,
    RtcOptions,
    guidance_of,
    no_guidance,
)
from openpi_flash_models.config.named_configs import InferenceConfig
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.policy.action_kind import Program
from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS, ActionModel
from openpi_flash_models.policy.observation_reader import ObservationReader
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_models.transforms.arrays import parse_numbers

MAX_STEPS = 200


@dataclasses.dataclass(frozen=True, eq=False)
class FlowSampling:
    """How one request is sampled.

    Attributes:
        noise: [1, H, A].
        num_steps: of denoising.
        guidance: from the request's previous chunk; None without one.
    """

    noise: np.ndarray
    num_steps: int
    guidance: Guidance | None


class FlowActions:
    """A flow-matching model.

    Args:
        model: pi0 or pi0.5.
        config: names the robot and the formats.
        rtc: how the previous chunk guides the new one; the model must have the same options.
            None: requests for it are refused.
    """

    def __init__(
        self, model: ActionModel, config: InferenceConfig, *, rtc: RtcOptions | None = DEFAULT_RTC
    ) -> None:
        self.model = model
        self._config = config
        self._rtc = rtc
        self._chunk = (config.action_horizon, model.shape.action_dim)
        self._noise = np.random.default_rng(0)
        self._noise_lock = threading.Lock()

    @property
    def shape(self) -> ModelShape:
        """Which model, of what sizes."""
        return self.model.shape

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """Prompt lengths with a program."""
        return self.model.token_buckets

    def supports(self, reader: ObservationReader) -> tuple[str, ...]:
        """Noise, steps, and the previous chunk where it can be read."""
        supports: tuple[str, ...] = ("seed", "noise", "num_steps")
        if self._rtc is not None and reader.can_read_actions:
            supports = (*supports, "rtc")
            if self._config.trained_with_prefix:
                supports = (*supports, "rtc_prefix")
        return supports

    def sampling(
        self, controls: InferenceControls, state: np.ndarray, reader: ObservationReader
    ) -> FlowSampling:
        """See `ActionKind`."""
        guidance = None
        if controls.rtc is not None:
            guidance = self._guidance(controls.rtc, state, reader)
        steps = _checked_steps(controls.num_steps)
        return FlowSampling(self._draw_noise(controls), steps, guidance)

    def program(self, sampling: FlowSampling) -> Program:
        """The steps, and whether frozen actions are known."""
        guidance = sampling.guidance
        return sampling.num_steps, guidance is not None and guidance.is_prefix

    def examples(self, sampling: FlowSampling, reader: ObservationReader) -> list[FlowSampling]:
        """Each program: with and without a previous chunk, of the usual and of other steps."""
        examples = [sampling]
        supports = self.supports(reader)
        frozen = np.arange(self._chunk[0])[None] < 1
        shape = (1, *self._chunk)
        weight = np.broadcast_to(frozen[..., None], shape).astype(np.float32)
        guidance = Guidance(np.zeros(shape, np.float32), weight, frozen)
        if "rtc" in supports and self.model.prepares_rtc:
            examples.append(dataclasses.replace(sampling, guidance=guidance))
        if "rtc_prefix" in supports:
            known = dataclasses.replace(guidance, is_prefix=True)
            examples.append(dataclasses.replace(sampling, guidance=known))
        if self.model.prepares_other_steps:
            other = sampling.num_steps + 1
            examples += [dataclasses.replace(one, num_steps=other) for one in examples]
        return examples

    def compute(
        self, inputs: ModelInputs, samplings: Sequence[FlowSampling], rows: np.ndarray
    ) -> np.ndarray:
        """Normalised actions [B, H, A]."""
        num_steps, is_prefix = self.program(samplings[0])
        each = [one.guidance or no_guidance(1, *self._chunk) for one in samplings]
        target, weight, frozen = (
            np.concatenate([getattr(one, name) for one in each])[rows]
            for name in ("target", "weight", "frozen")
        )
        guidance = Guidance(target, weight, frozen, is_prefix=is_prefix)
        noise = np.concatenate([one.noise for one in samplings])[rows]
        return self.model.sample(inputs, noise, num_steps, guidance)

    def actions(
        self, made: np.ndarray, state: np.ndarray, measured: np.ndarray, reader: ObservationReader
    ) -> tuple[np.ndarray, Substitute | None]:
        """The model's actions in the robot's units; never a substitute."""
        del measured
        refuse_not_finite(made)
        return reader.to_robot(made, state), None

    def _guidance(self, rtc: RtcControls, state: np.ndarray, reader: ObservationReader) -> Guidance:
        if self._rtc is None:
            raise ObservationError("rtc", "is switched off, send the request without it")
        if rtc.is_prefix and not self._config.trained_with_prefix:
            raise ObservationError(
                "rtc/method",
                "is 'prefix', which the checkpoint was not trained with; leave it out, or "
                "set trained_with_prefix in the checkpoint's config if it was",
            )
        return guidance_of(
            reader.previous_actions(rtc, state),
            rtc,
            self._rtc.schedule,
            horizon=self._chunk[0],
            action_dim=self._chunk[1],
            grippers=self._config.robot.grippers,
        )

    def _draw_noise(self, controls: InferenceControls) -> np.ndarray:
        shape = self._chunk
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

"""The models in JAX, as policies use them: weights on the device, programs compiled per shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.actions.rtc import DEFAULT_RTC, Guidance, RtcOptions
from openpi_flash_models.errors import ModelOutputError
from openpi_flash_models.jax_models import decode, flow
from openpi_flash_models.jax_models.arch import Arch, kernels_of_device
from openpi_flash_models.jax_models.arrange import PARTS
from openpi_flash_models.jax_models.weights import WITHOUT_ACTIONS, place_parts
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.precision import Quantization
from openpi_flash_models.model.rearrangements import ALL_ON, Rearrangements
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS, Turn, at_once
from openpi_flash_models.text.tokenizer import EOS_ID

FAST_MAX_TOKENS = 256


class JaxModel:
    """Weights and switches of one model.

    Args:
        tree: the checkpoint's nested tree, without ``params``.
        shape: of the tree.
        options: how the programs compute.
        parts: of the weights.
        quantization: eight-bit type of the weights; None: as they are in the tree.
        source: of the tree: models with equal ones share weights; None: with nobody.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        shape: ModelShape,
        options: Rearrangements = ALL_ON,
        *,
        parts: tuple[str, ...] = PARTS,
        quantization: Quantization | None = None,
        source: Hashable = None,
    ) -> None:
        kernels = kernels_of_device() if options.graph.fused_kernels else None
        self.arch = Arch(shape, options.graph, kernels=kernels)
        self.packing = options.packing
        # held, so that other models find them
        self._parts = place_parts(
            tree, shape, options.layout, parts=parts, quantization=quantization, source=source
        )
        self.weights = {name: part.weights for name, part in self._parts.items()}

    @property
    def shape(self) -> ModelShape:
        """Kind and sizes of the model."""
        return self.arch.shape

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """Prompt lengths with a program, besides the longest; None: no padding is cut."""
        return self.packing.token_buckets if self.packing.drop_padding else None

    def _placed(self, inputs: ModelInputs) -> ModelInputs:
        if self.packing.uint8_images or inputs.images.dtype != np.uint8:
            return inputs
        wide = np.asarray(inputs.images).astype(np.float32) / 255.0 * 2.0 - 1.0
        return dataclasses.replace(inputs, images=wide)


class JaxActionModel(JaxModel):
    """pi0 or pi0.5.

    Args:
        tree: as a :class:`JaxModel`'s.
        shape: of the tree.
        options: how the programs compute.
        rtc: how the previous chunk guides the new one.
        quantization: as a :class:`JaxModel`'s.
        source: as a :class:`JaxModel`'s.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        shape: ModelShape,
        options: Rearrangements = ALL_ON,
        rtc: RtcOptions = DEFAULT_RTC,
        *,
        quantization: Quantization | None = None,
        source: Hashable = None,
    ) -> None:
        super().__init__(tree, shape, options, quantization=quantization, source=source)
        self._rtc = rtc
        self._usual: flow.Schedule | None = None
        if options.graph.static_steps:
            self._usual = flow.make_schedule(self.arch, self.weights, DEFAULT_STEPS)

    @property
    def prepares_other_steps(self) -> bool:
        """See :class:`openpi_flash_models.policy.model_protocols.ActionModel`."""
        return self._usual is not None

    @property
    def prepares_rtc(self) -> bool:
        """See :class:`openpi_flash_models.policy.model_protocols.ActionModel`."""
        return False  # the same program, with weights of zero

    def sample(
        self, inputs: ModelInputs, noise: np.ndarray, num_steps: int, guidance: Guidance
    ) -> np.ndarray:
        """Normalised actions [B, H, A] float32 of a batch."""
        schedule = self._usual if num_steps == DEFAULT_STEPS else None
        one_graph = schedule is not None and kernels_of_device() is not None
        sample = flow.sample_as_one_graph if one_graph else flow.sample_actions
        actions = sample(
            self.arch,
            self.weights,
            self._placed(inputs),
            noise=noise,
            num_steps=jnp.int32(num_steps) if schedule is None else None,
            schedule=schedule,
            guidance=guidance,
            max_guidance=jnp.float32(self._rtc.max_guidance),
            method=self._rtc.method,
        )
        return np.asarray(jax.device_get(actions))


class JaxTokenModel(JaxModel):
    """pi0-FAST, or the language expert of pi0.5: generates tokens.

    Args:
        tree: as a :class:`JaxModel`'s.
        shape: of the tree.
        options: how the programs compute.
        max_tokens: M, the largest number of tokens that it generates.
        allowed: [V] bool, the tokens that it may generate; None: all.
        block: tokens that one program decodes; None: a single program makes the whole text.
        quantization: as a :class:`JaxModel`'s.
        source: as a :class:`JaxModel`'s.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        shape: ModelShape,
        options: Rearrangements = ALL_ON,
        *,
        max_tokens: int = FAST_MAX_TOKENS,
        allowed: np.ndarray | None = None,
        block: int | None = None,
        quantization: Quantization | None = None,
        source: Hashable = None,
    ) -> None:
        super().__init__(
            tree, shape, options, parts=WITHOUT_ACTIONS, quantization=quantization, source=source
        )
        self.max_tokens = max_tokens
        self.block = block
        if allowed is None:
            self._head = decode.whole_head(self.weights)
        else:
            self._head = decode.cut_head(self.weights, jnp.asarray(allowed))

    def generate(self, inputs: ModelInputs, turn: Turn = at_once) -> np.ndarray:
        """Token ids [B, M] of a batch, zeros after EOS.

        Args:
            inputs: images and prompts.
            turn: entered for each program that runs on the device; the name is the program's.

        Raises:
            ModelOutputError: the model's logits are not finite.
        """
        if self.block is None:
            with turn("generate"):
                made = decode.decode(
                    self.arch, self.weights, self._head, self._placed(inputs), _EOS, **self._sizes
                )
                tokens = np.asarray(jax.device_get(made))
        else:
            tokens = self._generate_in_blocks(inputs, turn, self.block)
        if (tokens == decode.NON_FINITE).any():
            raise ModelOutputError("the model's logits are not finite")
        return tokens

    def _generate_in_blocks(self, inputs: ModelInputs, turn: Turn, block: int) -> np.ndarray:
        # each turn ends when the device has finished: what is queued there would delay others
        with turn("embed"):
            embedded = decode.embed(self.arch, self.weights, self._placed(inputs))
            embedded[0].block_until_ready()
        with turn("read"):
            text = decode.begin(
                self.arch, self.weights, self._head, embedded, eos=_EOS, **self._sizes
            )
            text.done.block_until_ready()
        # at least one, which compiles it in the warm-up even if the text is complete
        for _ in range(1, self.max_tokens, block):
            with turn("decode"):
                text = decode.go_on(
                    self.arch, self.weights, self._head, text, eos=_EOS, tokens=np.int32(block)
                )
                is_complete = bool(np.all(jax.device_get(text.done)))
            if is_complete:
                break
        return np.asarray(jax.device_get(text.ids))

    @property
    def _sizes(self) -> dict[str, int]:
        is_fast = self.shape.kind == "pi0_fast"
        return {"max_tokens": self.max_tokens, "skipped_positions": 1 if is_fast else 0}


_EOS = np.int32(EOS_ID)

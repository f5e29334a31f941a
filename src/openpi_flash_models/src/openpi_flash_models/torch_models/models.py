"""pi0 and pi0.5 in PyTorch, as policies use them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openpi_flash_models.actions.rtc import DEFAULT_RTC, Guidance, RtcOptions
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.torch_models.denoise import Pull
from openpi_flash_models.torch_models.flow import Observation
from openpi_flash_models.torch_models.from_tree import build_flow_model
from openpi_flash_models.torch_models.graphs import Capture
from openpi_flash_models.torch_models.sampler import Sampler

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def best_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype() -> str:
    """The type that suits :func:`best_device`: float32 on a CPU, bfloat16 on a GPU."""
    return "float32" if best_device().type == "cpu" else "bfloat16"


class TorchActionModel:
    """pi0 or pi0.5.

    Args:
        tree: the checkpoint's nested tree, without ``params``.
        shape: of the tree.
        dtype: ``bfloat16`` or ``float32``; None is :func:`best_dtype`.
        device: None is :func:`best_device`.
        rtc: how the previous chunk guides the new one.
        mode: how it is compiled, see :mod:`openpi_flash_models.torch_models.sampler`.
        capture: makes graphs of calls, see :class:`Sampler`.
    """

    def __init__(
        self,
        tree: Mapping[str, Any],
        shape: ModelShape,
        *,
        dtype: str | None = None,
        device: str | torch.device | None = None,
        rtc: RtcOptions = DEFAULT_RTC,
        mode: str | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.shape = shape
        self._device = best_device() if device is None else torch.device(device)
        if self._device.type == "cuda":
            # TF32 for the products that stay in float32, as in openpi
            torch.set_float32_matmul_precision("high")
        model = build_flow_model(
            tree, shape, dtype=DTYPES[dtype or best_dtype()], device=self._device
        )
        self._sampler = Sampler(model, mode, rtc, capture)
        self._lock = threading.Lock()

    @property
    def token_buckets(self) -> Sequence[int]:
        """Prompt lengths with a program, besides the longest."""
        return ALL_ON.packing.token_buckets

    @property
    def prepares_rtc(self) -> bool:
        """See :class:`openpi_flash_models.policy.model_protocols.ActionModel`."""
        return self._sampler.prepares_rtc

    @property
    def prepares_other_steps(self) -> bool:
        """See :class:`openpi_flash_models.policy.model_protocols.ActionModel`."""
        return False  # they run what is there, without a graph

    def sample(
        self, inputs: ModelInputs, noise: np.ndarray, num_steps: int, guidance: Guidance
    ) -> np.ndarray:
        """Normalised actions [B, H, A] float32 of a batch."""
        observation = Observation(
            images=self._host(inputs.images),
            image_mask=self._host(inputs.image_mask),
            tokens=self._host(inputs.tokens.astype(np.int64)),
            token_mask=self._host(inputs.token_mask),
            state=self._state(inputs, len(noise)),
        )
        pull = None
        if guidance.weight.any() or guidance.frozen.any():
            pull = Pull(*map(self._host, (guidance.target, guidance.weight, guidance.frozen)))
        with self._lock:
            actions = self._sampler.sample_actions(
                observation,
                self._host(noise),
                num_steps,
                pull,
                is_prefix=pull is not None and guidance.is_prefix,
            )
            result: np.ndarray = actions.cpu().numpy()
        return result

    def _state(self, inputs: ModelInputs, batch: int) -> Tensor:
        if self.shape.kind == "pi0":
            return self._host(inputs.state)
        return torch.zeros(batch, 0)  # pi0.5 reads it in its prompt

    def _host(self, array: np.ndarray) -> Tensor:
        # Pinned memory is sent to a GPU without another copy, while the CPU goes on.
        tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))
        return tensor.pin_memory() if self._device.type == "cuda" else tensor

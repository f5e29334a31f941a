"""What a policy asks of a model, whatever framework it is written in.

Arrays in and out are numpy's; a model owns its device, its compiled programs and its buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from openpi_flash_models.actions.rtc import Guidance
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.shape import ModelShape

DEFAULT_STEPS = 10
"""Denoising steps of a request that names none."""


class ActionModel(Protocol):
    """pi0 or pi0.5: noise becomes actions."""

    @property
    def shape(self) -> ModelShape:
        """Which model, of what sizes."""

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """Prompt lengths it has programs for; None: it wants every slot, masked or not."""

    @property
    def prepares_rtc(self) -> bool:
        """Whether calls with an earlier chunk have to be warmed up apart from those without."""

    def sample(
        self, inputs: ModelInputs, noise: np.ndarray, num_steps: int, guidance: Guidance
    ) -> np.ndarray:
        """Normalised actions [B, H, A] float32 of a batch."""


class TokenModel(Protocol):
    """pi0-FAST: actions are said in tokens."""

    @property
    def shape(self) -> ModelShape:
        """Which model, of what sizes."""

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """As an :class:`ActionModel`'s."""

    def generate(self, inputs: ModelInputs) -> np.ndarray:
        """Token ids [B, M] of a batch, zeros after the end mark."""

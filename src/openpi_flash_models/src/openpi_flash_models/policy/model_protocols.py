"""The interface between a policy and its model, in any framework.

Arrays in and out are numpy's; a model owns its device, its compiled programs and its buckets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from openpi_flash_models.actions.rtc import Guidance
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.shape import ModelShape

DEFAULT_STEPS = 10
"""Denoising steps of a request that names none."""


Turn = Callable[[str], contextlib.AbstractContextManager[None]]
"""Gives the device for one program, named by its kind, while the context is open."""


def at_once(program: str) -> contextlib.AbstractContextManager[None]:
    """The turn of a model that shares its device with none."""
    del program
    return contextlib.nullcontext()


class ActionModel(Protocol):
    """pi0 or pi0.5: noise becomes actions."""

    @property
    def shape(self) -> ModelShape:
        """Which model, of what sizes."""

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """Prompt lengths with a program; None: it takes every slot, masked or not."""

    @property
    def prepares_rtc(self) -> bool:
        """Whether calls with a previous chunk need a warm-up of their own."""

    @property
    def prepares_other_steps(self) -> bool:
        """Whether calls of another number of steps than the usual one need one, too."""

    def sample(
        self, inputs: ModelInputs, noise: np.ndarray, num_steps: int, guidance: Guidance
    ) -> np.ndarray:
        """Normalised actions [B, H, A] float32 of a batch."""


class TokenModel(Protocol):
    """pi0-FAST: generates actions as tokens."""

    @property
    def shape(self) -> ModelShape:
        """Which model, of what sizes."""

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """As an :class:`ActionModel`'s."""

    def generate(self, inputs: ModelInputs) -> np.ndarray:
        """Token ids [B, M] of a batch, zeros after EOS."""


class TurnTakingModel(TokenModel, Protocol):
    """A planner's: lets others use the device between its programs."""

    def generate(self, inputs: ModelInputs, turn: Turn = at_once) -> np.ndarray:
        """As a :class:`TokenModel`'s; each program runs in a turn of its own."""

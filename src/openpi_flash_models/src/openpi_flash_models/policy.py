"""What a policy is: an observation in, a chunk of actions out. Needs no model framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class InferenceControls:
    """What a request may choose about its own inference.

    Attributes:
        noise: [H, A] or [1, H, A], the model's own action width; None draws it.
        seed: of the noise; None takes the next of the policy's own sequence.
        num_steps: denoising steps; None is ten.
    """

    noise: np.ndarray | None = None
    seed: int | None = None
    num_steps: int | None = None


DEFAULT_CONTROLS = InferenceControls()


@dataclass(frozen=True)
class ActionResult:
    """A chunk.

    Attributes:
        actions: [H, robot's action dim] float64, robot units.
        infer_ms: of the model alone, until the actions are on the host.
    """

    actions: np.ndarray
    infer_ms: float


@dataclass(frozen=True)
class ImageSpec:
    """An image as a client should send it, so that nothing has to be resized here."""

    path: tuple[str, ...]
    shape: tuple[int, int, int]
    dtype: str = "uint8"


@dataclass(frozen=True)
class PolicySpec:
    """What clients need to know of a policy."""

    model: str
    robot: str
    action_horizon: int
    action_dim: int
    action_rate_hz: float
    action_names: tuple[str, ...]
    image_specs: tuple[ImageSpec, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


class ActionPolicy(Protocol):
    """Anything that turns observations into chunks."""

    @property
    def spec(self) -> PolicySpec:
        """What it is."""

    def infer(
        self, observation: Mapping[str, Any], controls: InferenceControls = DEFAULT_CONTROLS
    ) -> ActionResult:
        """Answer one observation.

        Raises:
            ObservationError: the caller's fault.
        """

    def warm_up(self) -> None:
        """Compile everything that service will use."""

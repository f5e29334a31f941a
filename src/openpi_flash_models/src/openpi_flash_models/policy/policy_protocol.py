"""The interface of a policy: an observation in, a chunk of actions out.

Needs no model framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from openpi_flash_models.actions.malformed import Substitute
from openpi_flash_models.actions.rtc import RtcControls
from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.robot_input import RobotInput


@dataclass(frozen=True)
class InferenceControls:
    """What a request may choose about its own inference.

    Attributes:
        noise: [H, A] or [1, H, A], the model's own action width; None draws it.
        seed: of the noise; None takes the next of the policy's own sequence.
        num_steps: denoising steps; None is ten.
        rtc: the chunk that the robot is playing, for the new one to continue; None: it starts
            anew.
    """

    noise: np.ndarray | None = None
    seed: int | None = None
    num_steps: int | None = None
    rtc: RtcControls | None = None


DEFAULT_CONTROLS = InferenceControls()


@dataclass(frozen=True)
class ActionResult:
    """A chunk.

    Attributes:
        actions: [H, robot's action dim] float64, robot units.
        infer_ms: time of the model alone, until the actions are on the host.
        batch_size: number of observations in that call.
        substitute: what the actions are instead of the model's output, and why; None: they are
            the model's output.
        extra: further entries of the answer, sent to the client as they are.
        preprocess_ms: from the observation to the model's inputs; None: not measured.
        postprocess_ms: from the model's output to the actions; None: not measured.
    """

    actions: np.ndarray
    infer_ms: float
    batch_size: int = 1
    substitute: Substitute | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    preprocess_ms: float | None = None
    postprocess_ms: float | None = None


@dataclass(frozen=True)
class ImageSpec:
    """An image as a client should send it, so that nothing has to be resized here."""

    path: tuple[str, ...]
    shape: tuple[int, int, int]
    dtype: str = "uint8"


@dataclass(frozen=True)
class PolicySpec:
    """What clients need to know of a policy.

    Of a policy that does not say all of it, empty text, empty tuples and 0 are what is not known.

    Attributes:
        model: which kind, as in ``MODEL_NAMES``.
        robot: the robot whose observations it reads.
        action_horizon: steps of a chunk.
        action_dim: numbers of a step.
        action_rate_hz: steps per second.
        actions: what each number of a step means.
        image_specs: of each camera.
        metadata: sent to clients as it is.
        supports: the controls that a request may use, by their keys on the wire.
        config: name of the inference config; empty for a policy without one.
        checkpoint: which weights answer; None for a policy without weights.
        inputs: what it reads of a request; None for a policy that does not say.
    """

    model: str
    robot: str
    action_horizon: int
    action_dim: int
    action_rate_hz: float
    actions: tuple[ActionColumn, ...]
    image_specs: tuple[ImageSpec, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    supports: tuple[str, ...] = ("seed", "noise", "num_steps")
    config: str = ""
    checkpoint: CheckpointIdentity | None = None
    inputs: tuple[RobotInput, ...] | None = None

    @property
    def action_names(self) -> tuple[str, ...]:
        """The name of each number of a step."""
        return tuple(action.name for action in self.actions)


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
        """Compile everything that requests will use."""


@runtime_checkable
class StatefulPolicy(Protocol):
    """A policy that keeps something between requests."""

    def reset(self) -> None:
        """Start a new episode; called from any thread, and returns at once."""


@runtime_checkable
class FirstActionsPolicy(ActionPolicy, Protocol):
    """A policy that may know the first steps of a chunk before the last ones."""

    def infer_with_first(
        self,
        observation: Mapping[str, Any],
        controls: InferenceControls,
        steps: int,
        first: Callable[[np.ndarray], None],
    ) -> ActionResult:
        """As `infer`; calls `first` at most once, with the first steps [steps, D] of the chunk.

        They are final, finite, and the result begins with them.
        """


BatchRequest = tuple[Mapping[str, Any], InferenceControls]
BatchAnswer = ActionResult | ObservationError | ModelOutputError


@runtime_checkable
class BatchPolicy(ActionPolicy, Protocol):
    """A policy that answers several observations in one call."""

    @property
    def max_batch(self) -> int:
        """How many."""

    def infer_batch(self, requests: Sequence[BatchRequest]) -> list[BatchAnswer]:
        """Answer each request; an error of one request is the answer to that one only."""

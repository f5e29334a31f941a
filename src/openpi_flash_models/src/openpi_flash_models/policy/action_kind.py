"""What differs between the kinds of action models: controls, call and output of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from openpi_flash_models.actions.malformed import Substitute
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.policy.observation_reader import ObservationReader
from openpi_flash_models.policy.policy_protocol import InferenceControls

Program = tuple[int, bool]
"""Names what the requests of one call share; requests with equal ones can share a call."""


class ActionKind(Protocol):
    """A kind of action model with its model. Its `sampling` of a request is its own affair."""

    @property
    def shape(self) -> ModelShape:
        """Which model, of what sizes."""

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """Prompt lengths with a program; None: the model takes every slot, masked or not."""

    def supports(self, reader: ObservationReader) -> tuple[str, ...]:
        """The controls that a request may use, by their keys on the wire."""

    def sampling(
        self, controls: InferenceControls, state: np.ndarray, reader: ObservationReader
    ) -> Any:
        """How one request is sampled.

        Args:
            controls: the request's.
            state: [S] in the model's space, not normalised.
            reader: reads the previous chunk.

        Raises:
            ObservationError: a control cannot be used; names it.
        """

    def program(self, sampling: Any) -> Program:
        """What a request shares with the others of its call."""

    def examples(self, sampling: Any, reader: ObservationReader) -> list[Any]:
        """One sampling for each program that requests can need, given an ordinary one."""

    def compute(
        self, inputs: ModelInputs, samplings: Sequence[Any], rows: np.ndarray
    ) -> np.ndarray:
        """The model's own output [B, ...].

        Args:
            inputs: of B rows.
            samplings: of the requests.
            rows: [B], the request of each row.
        """

    def actions(
        self, made: np.ndarray, state: np.ndarray, measured: np.ndarray, reader: ObservationReader
    ) -> tuple[np.ndarray, Substitute | None]:
        """The chunk [H, D] in the robot's units, and its substitute if it is not the model's.

        Args:
            made: the model's output for one request.
            state: [S] in the model's space, not normalised.
            measured: [S] in the robot's own units.
            reader: converts to the robot's units.

        Raises:
            ModelOutputError: the output is no chunk, or not finite.
        """

"""Actions as tokens: pi0-FAST generates them, and a decoder makes numbers of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.actions.malformed import (
    MalformedTokens,
    Substitute,
    check_malformed_tokens,
    held_actions,
)
from openpi_flash_models.actions.tokens import ActionDecoder
from openpi_flash_models.config.named_configs import InferenceConfig
from openpi_flash_models.errors import ActionDecodeError, ObservationError
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.policy.action_kind import Program
from openpi_flash_models.policy.model_protocols import TokenModel
from openpi_flash_models.policy.observation_reader import ObservationReader
from openpi_flash_models.policy.policy_protocol import InferenceControls

log = logging.getLogger(__name__)


class TokenActions:
    """A model that generates tokens.

    Args:
        model: pi0-FAST.
        config: names the robot and the formats.
        decoder: from tokens to actions.
        malformed_tokens: see ``actions/malformed.py``.

    Raises:
        InferenceConfigError: the robot cannot do what ``malformed_tokens`` asks.
    """

    def __init__(
        self,
        model: TokenModel,
        config: InferenceConfig,
        decoder: ActionDecoder,
        *,
        malformed_tokens: MalformedTokens = "error",
    ) -> None:
        check_malformed_tokens(malformed_tokens, config.robot)
        self.model = model
        self._config = config
        self._decoder = decoder
        self._malformed_tokens = malformed_tokens

    @property
    def shape(self) -> ModelShape:
        """Which model, of what sizes."""
        return self.model.shape

    @property
    def token_buckets(self) -> Sequence[int] | None:
        """Prompt lengths with a program."""
        return self.model.token_buckets

    def supports(self, reader: ObservationReader) -> tuple[str, ...]:
        """None: the most likely tokens are taken."""
        del reader
        return ()

    def sampling(
        self, controls: InferenceControls, state: np.ndarray, reader: ObservationReader
    ) -> None:
        """See `ActionKind`; there is nothing to choose."""
        del state, reader
        if controls.rtc is not None:
            raise ObservationError("rtc", "pi0-FAST cannot continue a previous chunk")

    def program(self, sampling: None) -> Program:
        """All requests share one."""
        del sampling
        return 1, False

    def examples(self, sampling: None, reader: ObservationReader) -> list[None]:
        """There is one program."""
        del reader
        return [sampling]

    def compute(
        self, inputs: ModelInputs, samplings: Sequence[None], rows: np.ndarray
    ) -> np.ndarray:
        """Token ids [B, M]."""
        del samplings, rows
        return self.model.generate(inputs)

    def actions(
        self, made: np.ndarray, state: np.ndarray, measured: np.ndarray, reader: ObservationReader
    ) -> tuple[np.ndarray, Substitute | None]:
        """The decoded actions in the robot's units, or the configured substitute."""
        robot, horizon = self._config.robot, self._config.action_horizon
        width, substitute = len(robot.action_names), None
        try:
            decoded = self._decoder.decode(made, horizon, width)
        except ActionDecodeError as error:
            if self._malformed_tokens == "error":
                raise
            log.warning("%s; answered with %s", error, self._malformed_tokens)
            substitute = Substitute(self._malformed_tokens, str(error))
            if substitute.kind == "hold":
                return held_actions(robot, measured, horizon), substitute
            decoded = np.zeros((horizon, width))
        refuse_not_finite(decoded)
        return reader.to_robot(decoded, state), substitute

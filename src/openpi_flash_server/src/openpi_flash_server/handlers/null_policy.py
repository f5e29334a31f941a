"""A policy without a model: always the same chunk, for benchmarks and bring-up without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from openpi_flash_models.policy.policy_protocol import ActionResult, InferenceControls, PolicySpec
from openpi_flash_models.robots import ActionColumn

HORIZON = 50
DIM = 32


class NullPolicy:
    """Answers every observation with the same ramp from -1 to 1, [50, 32].

    No two of its numbers are equal, so that a test sees whether a chunk arrived complete and in
    order. A robot must not be driven with it.
    """

    def __init__(self) -> None:
        self.spec = PolicySpec(
            model="null",
            robot="null",
            action_horizon=HORIZON,
            action_dim=DIM,
            action_rate_hz=25.0,
            actions=tuple(ActionColumn(f"action_{index}") for index in range(DIM)),
            image_specs=(),
            metadata={},
        )
        ramp = np.linspace(-1.0, 1.0, HORIZON * DIM, dtype=np.float32)
        self._actions = ramp.reshape(HORIZON, DIM)
        self._actions.setflags(write=False)

    def infer(
        self, observation: Mapping[str, Any], controls: InferenceControls | None = None
    ) -> ActionResult:
        """The chunk; the observation is ignored."""
        del observation, controls
        return ActionResult(actions=self._actions, infer_ms=0.0)

    def warm_up(self) -> None:
        """Nothing to warm."""

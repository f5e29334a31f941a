"""The action slot's handler: an observation in, a chunk of actions out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import (
    ActionPolicy,
    InferenceControls,
    StatefulPolicy,
)
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import RequestMode, Work


class ActionHandler:
    """Runs one policy."""

    def __init__(self, policy: ActionPolicy) -> None:
        self._policy = policy

    def handle(self, work: Work) -> dict[str, Any]:
        """`actions` [horizon, dim] float64 and `policy_timing`.

        `substitute` {kind, reason} is added if the actions are not the model's output, where
        `malformed_tokens` allows that.
        """
        if work.mode is RequestMode.SUBTASK_ONLY:
            raise ObservationError("mode", "subtask_only needs a planner, and this server has none")
        return self.act(work.observation, work.controls)

    def act(self, observation: Mapping[str, Any], controls: InferenceControls) -> dict[str, Any]:
        """As `handle`, for an observation that another handler completed."""
        result = self._policy.infer(observation, controls)
        actions = np.ascontiguousarray(result.actions, dtype=np.float64)
        # never sent to a robot, even one that checks them itself
        refuse_not_finite(actions)
        answer = {
            **result.extra,
            "actions": actions,
            "policy_timing": {"infer_ms": float(result.infer_ms)},
        }
        if result.substitute is not None:
            answer["substitute"] = {
                "kind": result.substitute.kind,
                "reason": result.substitute.reason,
            }
        return answer

    def reset(self, session: Session) -> None:
        """Starts a new episode of a policy that keeps something between requests."""
        del session  # policies know no sessions
        if isinstance(self._policy, StatefulPolicy):
            self._policy.reset()

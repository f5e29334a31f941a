"""The action slot's handler: an observation in, a chunk of actions out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_models.policy.policy_protocol import (
    ActionPolicy,
    ActionResult,
    BatchPolicy,
    BatchRequest,
    InferenceControls,
    StatefulPolicy,
)
from openpi_flash_server.slot.runner import Result
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import RequestMode, Work


class ActionHandler:
    """Runs one policy."""

    def __init__(self, policy: ActionPolicy) -> None:
        self._policy = policy

    @property
    def max_batch(self) -> int:
        """How many works `handle_batch` takes."""
        return self._policy.max_batch if isinstance(self._policy, BatchPolicy) else 1

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys run the same program of the model."""
        rtc = work.controls.rtc
        return work.controls.num_steps, rtc is not None and rtc.is_prefix

    def handle(self, work: Work) -> dict[str, Any]:
        """`actions` [horizon, dim] float64 and `policy_timing`.

        `substitute` {kind, reason} is added if the actions are not the model's output, where
        `malformed_tokens` allows that.
        """
        if work.mode is RequestMode.SUBTASK_ONLY:
            raise _no_planner()
        return self.act(work.observation, work.controls)

    def handle_batch(self, works: Sequence[Work]) -> list[Result]:
        """As `handle` for each work, in one call of the policy."""
        acting = [work for work in works if work.mode is not RequestMode.SUBTASK_ONLY]
        results = iter(self.act_batch([(work.observation, work.controls) for work in acting]))
        return [
            _no_planner() if work.mode is RequestMode.SUBTASK_ONLY else next(results)
            for work in works
        ]

    def act(self, observation: Mapping[str, Any], controls: InferenceControls) -> dict[str, Any]:
        """As `handle`, for an observation that another handler completed."""
        return _reply(self._policy.infer(observation, controls))

    def act_batch(self, requests: Sequence[BatchRequest]) -> list[Result]:
        """As `act` for each request, in one call of the policy."""
        if not requests:
            return []
        assert isinstance(self._policy, BatchPolicy)
        results: list[Result] = []
        for answer in self._policy.infer_batch(requests):
            try:
                results.append(answer if isinstance(answer, Exception) else _reply(answer))
            except ModelOutputError as error:
                results.append(error)
        return results

    def reset(self, session: Session) -> None:
        """Starts a new episode of a policy that keeps something between requests."""
        del session  # policies know no sessions
        if isinstance(self._policy, StatefulPolicy):
            self._policy.reset()


def _no_planner() -> ObservationError:
    return ObservationError("mode", "subtask_only needs a planner, and this server has none")


def _reply(result: ActionResult) -> dict[str, Any]:
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

"""The action slot's handler: an observation in, a chunk of actions out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_models.policy.policy_protocol import (
    ActionPolicy,
    ActionResult,
    BatchPolicy,
    BatchRequest,
    FirstActionsPolicy,
    InferenceControls,
    StatefulPolicy,
)
from openpi_flash_models.text.task import requested_task
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.handlers.artifact import refuse_other_artifact
from openpi_flash_server.slot.runner import Result
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import FIRST_ACTIONS, RequestMode, Work

TakeFirst = Callable[[dict[str, Any]], None]
"""Takes first actions, as `FirstActionsHandler` gives them."""

Prepared = tuple[dict[str, Any], BatchRequest | None]
"""A part of a reply, and what to act on for the rest; None if that is the whole reply."""


class ActionHandler:
    """Runs one policy.

    Args:
        policy: the policy.
        prompts: the default prompt in force; None: there is none.
    """

    def __init__(self, policy: ActionPolicy, prompts: LivePrompts | None = None) -> None:
        self._policy = policy
        # asked here, once: whether an object follows a protocol takes as long as a small answer
        self._max_batch = policy.max_batch if isinstance(policy, BatchPolicy) else 1
        self._has_first = FIRST_ACTIONS in policy.spec.supports and isinstance(
            policy, FirstActionsPolicy
        )
        self._prompts = prompts or LivePrompts()
        checkpoint = policy.spec.checkpoint
        self._artifact = {} if checkpoint is None else {"artifact": checkpoint.digest}

    @property
    def max_batch(self) -> int:
        """How many works `handle_batch` takes."""
        return self._max_batch

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys run the same program of the model.

        A work that gets its first actions ahead runs alone.
        """
        if self._gives_first(work):
            return work
        rtc = work.controls.rtc
        return work.controls.num_steps, rtc is not None and rtc.is_prefix

    def handle(self, work: Work) -> dict[str, Any]:
        """`actions` [horizon, dim] float64, `policy_timing` and `prompt_version`.

        `artifact`, the checkpoint's digest, is added if the policy has a checkpoint.
        `substitute` {kind, reason} is added if the actions are not the model's output, where
        `malformed_tokens` allows that.
        """
        if work.mode is RequestMode.SUBTASK_ONLY:
            raise _no_planner()
        part, request = self.prepare(work)
        return self.act(*request) | part

    def handle_with_first(self, work: Work, first: TakeFirst) -> dict[str, Any]:
        """As `handle`; `first` gets {"actions": [first_actions, dim]} if they are known before."""
        if work.mode is RequestMode.SUBTASK_ONLY:
            raise _no_planner()
        part, request = self.prepare(work)
        return self.act_with_first(work, request, first) | part

    def handle_batch(self, works: Sequence[Work]) -> list[Result]:
        """As `handle` for each work, in one call of the policy."""
        prepared: list[Prepared | Exception] = []
        for work in works:
            try:
                if work.mode is RequestMode.SUBTASK_ONLY:
                    raise _no_planner()
                prepared.append(self.prepare(work))
            except ObservationError as error:
                prepared.append(error)
        return self.act_prepared(prepared)

    def prepare(self, work: Work) -> tuple[dict[str, Any], BatchRequest]:
        """The part of the reply before the action, and what to act on.

        Raises:
            ObservationError: another checkpoint is expected, or the prompt is no text.
        """
        self.refuse_other_artifact(work)
        prompts, version = self._prompts.snapshot
        observation = work.observation
        if prompts.default_prompt is not None and requested_task(observation) is None:
            observation = {**observation, "prompt": prompts.default_prompt}
        return {"prompt_version": version}, (observation, work.controls)

    def act(self, observation: Mapping[str, Any], controls: InferenceControls) -> dict[str, Any]:
        """`actions` and `policy_timing` for an observation that is prepared."""
        return _reply(self._policy.infer(observation, controls)) | self._artifact

    def act_with_first(self, work: Work, request: BatchRequest, first: TakeFirst) -> dict[str, Any]:
        """As `act`, for a work that wants first actions."""
        policy = self._policy
        if work.first_actions is None or not isinstance(policy, FirstActionsPolicy):
            return self.act(*request)

        def take(actions: np.ndarray) -> None:
            first({"actions": _chunk(actions)})

        result = policy.infer_with_first(*request, work.first_actions, take)
        return _reply(result) | self._artifact

    def act_prepared(self, prepared: Sequence[Prepared | Exception]) -> list[Result]:
        """The whole replies to what was prepared, in one call of the policy."""
        requests = [
            one[1] for one in prepared if not isinstance(one, Exception) and one[1] is not None
        ]
        acted = iter(self._act_batch(requests))
        results: list[Result] = []
        for one in prepared:
            if isinstance(one, Exception):
                results.append(one)
                continue
            part, request = one
            actions: Result = {} if request is None else next(acted)
            results.append(actions if isinstance(actions, Exception) else actions | part)
        return results

    def _act_batch(self, requests: Sequence[BatchRequest]) -> list[Result]:
        if not requests:
            return []
        assert isinstance(self._policy, BatchPolicy)
        results: list[Result] = []
        for answer in self._policy.infer_batch(requests):
            try:
                if isinstance(answer, Exception):
                    results.append(answer)
                else:
                    results.append(_reply(answer) | self._artifact)
            except ModelOutputError as error:
                results.append(error)
        return results

    def refuse_other_artifact(self, work: Work) -> None:
        """Raises ObservationError if the client expects another checkpoint."""
        refuse_other_artifact(work, self._policy.spec.checkpoint)

    def _gives_first(self, work: Work) -> bool:
        return work.first_actions is not None and self._has_first

    def reset(self, session: Session) -> None:
        """Starts a new episode of a policy that keeps something between requests."""
        del session  # policies know no sessions
        if isinstance(self._policy, StatefulPolicy):
            self._policy.reset()


def _no_planner() -> ObservationError:
    return ObservationError("mode", "subtask_only needs a planner, and this server has none")


def _chunk(actions: np.ndarray) -> np.ndarray:
    """Actions as they are sent: float64 in C order.

    Raises:
        ModelOutputError: a number is not finite.
    """
    chunk = np.ascontiguousarray(actions, dtype=np.float64)
    # never sent to a robot, even one that checks them itself
    refuse_not_finite(chunk)
    return chunk


def _reply(result: ActionResult) -> dict[str, Any]:
    actions = _chunk(result.actions)
    timing = {"infer_ms": float(result.infer_ms)}
    if result.preprocess_ms is not None and result.postprocess_ms is not None:
        timing["preprocess_ms"] = result.preprocess_ms
        timing["postprocess_ms"] = result.postprocess_ms
    answer: dict[str, Any] = {**result.extra, "actions": actions, "policy_timing": timing}
    if result.substitute is not None:
        answer["substitute"] = {
            "kind": result.substitute.kind,
            "reason": result.substitute.reason,
        }
    return answer

"""The action slot's handler beside a planner: plans, adds the subtask to the prompt, acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import BatchRequest
from openpi_flash_models.text.task import task_of
from openpi_flash_server.config.prompt_template import fill_template
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.planning import SubtaskSource
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.slot.answer import ErrorCode, RequestFailed
from openpi_flash_server.slot.runner import Result
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import RequestMode, Work

log = EventLogger(__name__)


class CombinedHandler:
    """Asks the planner before every action.

    If the planner fails, the actions are computed for the task alone, and the reply's `subtask`
    holds an `error` beside its empty text.

    Args:
        action: runs the policy.
        planner: gives the subtasks.
        action_prompt_template: holds {task} and {subtask}.
        default_prompt: the task for a request that names none.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        action: ActionHandler,
        planner: SubtaskSource,
        *,
        action_prompt_template: str,
        default_prompt: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._action = action
        self._planner = planner
        self._template = action_prompt_template
        self._default_prompt = default_prompt
        self._clock = clock

    def handle(self, work: Work) -> dict[str, Any]:
        """Answers with actions, a subtask, or both, as `work.mode` asks."""
        result, request = self._before_acting(work)
        return result if request is None else self._action.act(*request) | result

    def _before_acting(self, work: Work) -> tuple[dict[str, Any], BatchRequest | None]:
        """The part of the reply before the action, and what to act on, if anything."""
        if work.mode is RequestMode.ACTION_ONLY:
            return {}, (work.observation, work.controls)
        task = task_of(work.observation, self._default_prompt)
        if work.mode is RequestMode.SUBTASK_ONLY:
            return {"subtask": self._planner.subtask_for(work, task)}, None
        subtask = self._plan(work, task)
        prompt = task
        if subtask["text"]:
            prompt = fill_template(self._template, task=task, subtask=subtask["text"])
        return {"subtask": subtask}, ({**work.observation, "prompt": prompt}, work.controls)

    @property
    def max_batch(self) -> int:
        """How many works `handle_batch` takes."""
        return self._action.max_batch

    def batch_key(self, work: Work) -> Hashable:
        """As the action handler's."""
        return self._action.batch_key(work)

    def handle_batch(self, works: Sequence[Work]) -> list[Result]:
        """As `handle` for each work: plans one after the other, and acts in one call."""
        results: list[Result] = []
        acting: list[tuple[int, BatchRequest]] = []
        for index, work in enumerate(works):
            try:
                result, request = self._before_acting(work)
            except (ObservationError, RequestFailed) as error:
                results.append(error)
                continue
            results.append(result)
            if request is not None:
                acting.append((index, request))
        acted = self._action.act_batch([request for _, request in acting])
        for (index, _), actions in zip(acting, acted, strict=True):
            planned = results[index]
            assert isinstance(planned, dict)
            results[index] = actions if isinstance(actions, Exception) else actions | planned
        return results

    def reset(self, session: Session) -> None:
        """Starts a new episode of the policy; every action has its own subtask."""
        self._action.reset(session)

    def _plan(self, work: Work, task: str) -> dict[str, Any]:
        started = self._clock()
        try:
            return self._planner.subtask_for(work, task)
        except RequestFailed as error:
            failure = error.failure
            if failure.code not in _PLANNER_TROUBLE:
                raise
            log.warning("acting without a subtask", code=failure.code, reason=failure.message)
            return {
                "text": "",
                "ms": (self._clock() - started) * 1000,
                "age_ms": 0.0,
                "error": {"code": str(failure.code), "message": failure.message},
            }


_PLANNER_TROUBLE = {ErrorCode.INTERNAL, ErrorCode.NOT_READY}
"""Failures of the planner itself; after any other one the action is not worth computing."""

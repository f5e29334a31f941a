"""The action slot's handler beside a planner: plans, adds the subtask to the prompt, acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.text.task import task_of
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.config.prompt_template import fill_template
from openpi_flash_server.handlers.action import ActionHandler, Prepared
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
        prompts: the templates and the default prompt in force.
        default_prompt: the task if neither the request nor `prompts` names one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        action: ActionHandler,
        planner: SubtaskSource,
        *,
        prompts: LivePrompts,
        default_prompt: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._action = action
        self._planner = planner
        self._prompts = prompts
        self._default_prompt = default_prompt
        self._clock = clock

    def handle(self, work: Work) -> dict[str, Any]:
        """Answers with actions, a subtask, or both, as `work.mode` asks."""
        result, request = self._before_acting(work)
        return result if request is None else self._action.act(*request) | result

    def _before_acting(self, work: Work) -> Prepared:
        """The part of the reply before the action, and what to act on, if anything."""
        if work.mode is RequestMode.ACTION_ONLY:
            return self._action.prepare(work)
        self._action.refuse_other_artifact(work)
        prompts, version = self._prompts.snapshot
        part: dict[str, Any] = {"prompt_version": version}
        task = task_of(work.observation, prompts.default_prompt, self._default_prompt)
        if work.mode is RequestMode.SUBTASK_ONLY:
            return {**part, "subtask": self._planner.subtask_for(work, task)}, None
        subtask = self._plan(work, task)
        prompt = task
        if subtask["text"]:
            template = prompts.action_prompt_template
            prompt = fill_template(template, task=task, subtask=subtask["text"])
        part["subtask"] = subtask
        return part, ({**work.observation, "prompt": prompt}, work.controls)

    @property
    def max_batch(self) -> int:
        """How many works `handle_batch` takes."""
        return self._action.max_batch

    def batch_key(self, work: Work) -> Hashable:
        """As the action handler's."""
        return self._action.batch_key(work)

    def handle_batch(self, works: Sequence[Work]) -> list[Result]:
        """As `handle` for each work: plans one after the other, and acts in one call."""
        prepared: list[Prepared | Exception] = []
        for work in works:
            try:
                prepared.append(self._before_acting(work))
            except (ObservationError, RequestFailed) as error:
                prepared.append(error)
        return self._action.act_prepared(prepared)

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

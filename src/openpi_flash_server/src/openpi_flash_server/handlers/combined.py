"""The action slot's handler beside a planner: adds the subtask to the prompt, and acts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.text.task import task_of
from openpi_flash_server.config.live_prompts import LivePrompts, Prompts
from openpi_flash_server.config.prompt_template import fill_template
from openpi_flash_server.handlers.action import ActionHandler, Prepared, TakeFirst
from openpi_flash_server.slot.answer import RequestFailed
from openpi_flash_server.slot.runner import Result
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import RequestMode, Work


class SubtaskSource(Protocol):
    """Knows the subtasks of the requests that run."""

    def subtask_for(self, work: Work, task: str) -> dict[str, Any]:
        """The `subtask` of a reply to `work`; returns at once.

        Raises:
            RequestFailed: there is none, and the action is not worth computing.
        """


def task_reader(
    action: ActionHandler, prompts: LivePrompts, default_prompt: str | None
) -> Callable[[Work], str]:
    """Reads the task of a request as a `CombinedHandler` of the same arguments does.

    It raises ObservationError for a request that the handler refuses.
    """

    def task(work: Work) -> str:
        action.refuse_other_artifact(work)
        return task_of(work.observation, prompts.current.default_prompt, default_prompt)

    return task


def prompt_reader(
    prompts: LivePrompts, default_prompt: str | None
) -> Callable[[Work, Mapping[str, Any]], str | None]:
    """Reads from an answer the prompt that its actions followed.

    Args:
        prompts: as of the `CombinedHandler` that answered.
        default_prompt: as of that handler.

    Returns:
        A function of a request and the result that answered it; None: the prompts have changed
        since, so that it cannot be told.
    """

    def prompt(work: Work, result: Mapping[str, Any]) -> str | None:
        current, version = prompts.snapshot
        if result.get("prompt_version") != version:
            return None
        task = task_of(work.observation, current.default_prompt, default_prompt)
        return _action_prompt(current, task, result["subtask"]["text"])

    return prompt


class CombinedHandler:
    """Acts for task and subtask.

    Without a subtask the actions are computed for the task alone, and the reply's `subtask` holds
    an `error` beside its empty text.

    Args:
        action: runs the policy.
        planner: gives the subtasks.
        prompts: the templates and the default prompt in force.
        default_prompt: the task if neither the request nor `prompts` names one.
    """

    def __init__(
        self,
        action: ActionHandler,
        planner: SubtaskSource,
        *,
        prompts: LivePrompts,
        default_prompt: str | None,
    ) -> None:
        self._action = action
        self._planner = planner
        self._prompts = prompts
        self._default_prompt = default_prompt

    def handle(self, work: Work) -> dict[str, Any]:
        """Answers with actions, a subtask, or both, as `work.mode` asks."""
        result, request = self._before_acting(work)
        return result if request is None else self._action.act(*request) | result

    def handle_with_first(self, work: Work, first: TakeFirst) -> dict[str, Any]:
        """As `handle`; `first` gets the first actions if they are known before the rest."""
        result, request = self._before_acting(work)
        if request is None:
            return result
        return self._action.act_with_first(work, request, first) | result

    def _before_acting(self, work: Work) -> Prepared:
        """The part of the reply before the action, and what to act on, if anything."""
        if work.mode is RequestMode.ACTION_ONLY:
            return self._action.prepare(work)
        self._action.refuse_other_artifact(work)
        prompts, version = self._prompts.snapshot
        task = task_of(work.observation, prompts.default_prompt, self._default_prompt)
        subtask = self._planner.subtask_for(work, task)
        part: dict[str, Any] = {"prompt_version": version, "subtask": subtask}
        if work.mode is RequestMode.SUBTASK_ONLY:
            return part, None
        prompt = _action_prompt(prompts, task, subtask["text"])
        return part, ({**work.observation, "prompt": prompt}, work.controls)

    @property
    def max_batch(self) -> int:
        """How many works `handle_batch` takes."""
        return self._action.max_batch

    def batch_key(self, work: Work) -> Hashable:
        """As the action handler's."""
        return self._action.batch_key(work)

    def handle_batch(self, works: Sequence[Work]) -> list[Result]:
        """As `handle` for each work; acts in one call of the policy."""
        prepared: list[Prepared | Exception] = []
        for work in works:
            try:
                prepared.append(self._before_acting(work))
            except (ObservationError, RequestFailed) as error:
                prepared.append(error)
        return self._action.act_prepared(prepared)

    def reset(self, session: Session) -> None:
        """Starts a new episode of the policy; the slot's gate forgets the subtasks."""
        self._action.reset(session)


def _action_prompt(prompts: Prompts, task: str, subtask: str) -> str:
    """What the policy reads; a subtask without words is none."""
    if not subtask:
        return task
    return fill_template(prompts.action_prompt_template, task=task, subtask=subtask)

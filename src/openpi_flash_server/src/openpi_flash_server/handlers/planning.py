"""The planner slot's handler, and how other slots ask it for a subtask."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.policy.policy_protocol import DEFAULT_CONTROLS
from openpi_flash_models.text.task import task_of
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.handlers.artifact import refuse_other_artifact
from openpi_flash_server.slot.answer import Answer, Failure, Reply, RequestFailed
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.session import ServerSession, Session
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.ticket import Ticket
from openpi_flash_server.slot.work import RequestMode, Work


class PlannedSubtask(Protocol):
    """A planner's answer."""

    @property
    def text(self) -> str:
        """The subtask in words; empty if the model ended at once."""

    @property
    def ms(self) -> float:
        """How long it took."""


class Planner(Protocol):
    """A loaded planner."""

    @property
    def checkpoint(self) -> CheckpointIdentity | None:
        """The checkpoint it was loaded from."""

    def plan(
        self, observation: Mapping[str, Any], *, prompt: str, prompt_format: str | None = None
    ) -> PlannedSubtask:
        """The next subtask of the task `prompt`; None: the format that it was loaded with."""

    def warm_up(self) -> None:
        """Compiles what needs compiling."""


class PlannerHandler:
    """Runs one planner.

    Args:
        planner: the planner.
        prompts: the format and the default prompt in force; None: the defaults.
        default_prompt: the task if neither the request nor `prompts` names one.
    """

    def __init__(
        self,
        planner: Planner,
        prompts: LivePrompts | None = None,
        *,
        default_prompt: str | None,
    ) -> None:
        self._planner = planner
        self._prompts = prompts or LivePrompts()
        self._default_prompt = default_prompt

    def handle(self, work: Work) -> dict[str, Any]:
        """`subtask` {text, ms, age_ms} and `prompt_version`, for every mode."""
        refuse_other_artifact(work, self._planner.checkpoint)
        prompts, version = self._prompts.snapshot
        prompt = task_of(work.observation, prompts.default_prompt, self._default_prompt)
        subtask = self._planner.plan(
            work.observation, prompt=prompt, prompt_format=prompts.generation_prompt_format
        )
        # age: from the planning's end to its use
        planned = {"text": subtask.text, "ms": float(subtask.ms), "age_ms": 0.0}
        return {"subtask": planned, "prompt_version": version}

    def reset(self, session: Session) -> None:
        """Planners keep nothing between requests."""


class SubtaskSource:
    """Asks the planner's slot, so that only that slot's thread runs the planner.

    Args:
        slot: the planner's slot.
    """

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def subtask_for(self, work: Work, task: str) -> dict[str, Any]:
        """The `subtask` of a reply to `work`; blocks until the planner has answered.

        Raises:
            RequestFailed: the planner did not answer; says why.
        """
        answered = threading.Event()
        answers: list[Answer] = []

        def respond(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        now = self._slot.clock()
        self._slot.submit(
            Ticket(
                works=(
                    dataclasses.replace(
                        work,
                        observation={**work.observation, "prompt": task},
                        mode=RequestMode.SUBTASK_ONLY,
                        controls=DEFAULT_CONTROLS,
                        session=ServerSession.ACTION_SLOT,
                        # the client means the action slot's, which has checked it
                        expected_artifact=None,
                    ),
                ),
                is_batch=False,
                client=_ACTION_SLOT,
                received_at=now,
                decode_ms=0.0,
                deadline=None if work.deadline_ms is None else now + work.deadline_ms / 1000,
                respond=respond,
                is_cancelled=lambda: False,
            )
        )
        answered.wait()
        answer = answers[0]
        if isinstance(answer, Failure):
            raise RequestFailed(answer)
        assert isinstance(answer, Reply)
        subtask: dict[str, Any] = answer.result["subtask"]
        return subtask


_ACTION_SLOT = Client("action slot", "action slot")

"""The planner slot's handler."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.policy.model_protocols import Turn
from openpi_flash_models.text.task import task_of
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.handlers.artifact import refuse_other_artifact
from openpi_flash_server.slot.session import PlanSession, Session
from openpi_flash_server.slot.work import Work


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


@runtime_checkable
class TurnTakingPlanner(Protocol):
    """A planner that lets another model use the device between its programs."""

    def plan_in_turns(
        self,
        observation: Mapping[str, Any],
        *,
        prompt: str,
        turn: Turn,
        prompt_format: str | None = None,
    ) -> PlannedSubtask:
        """As `Planner.plan`; each program of the model runs in a `turn` of its own."""


class StepTurns(Protocol):
    """Gives the device for one step of a planner."""

    def step(self, program: str, *, is_awaited: bool) -> AbstractContextManager[None]:
        """The turn of a program; `is_awaited`: somebody waits for the subtask."""


class PlannerHandler:
    """Runs one planner.

    Args:
        planner: the planner.
        prompts: the format and the default prompt in force; None: the defaults.
        default_prompt: the task if neither the request nor `prompts` names one.
        turns: of the device, if an action model uses it, too.
    """

    def __init__(
        self,
        planner: Planner,
        prompts: LivePrompts | None = None,
        *,
        default_prompt: str | None,
        turns: StepTurns | None = None,
    ) -> None:
        self._planner = planner
        self._prompts = prompts or LivePrompts()
        self._default_prompt = default_prompt
        self._turns = turns

    def handle(self, work: Work) -> dict[str, Any]:
        """`subtask` {text, ms, age_ms} and `prompt_version`, for every mode."""
        refuse_other_artifact(work, self._planner.checkpoint)
        prompts, version = self._prompts.snapshot
        prompt = task_of(work.observation, prompts.default_prompt, self._default_prompt)
        subtask = self._plan(work, prompt, prompts.generation_prompt_format)
        planned = {"text": subtask.text, "ms": float(subtask.ms), "age_ms": 0.0}
        return {"subtask": planned, "prompt_version": version}

    def _plan(self, work: Work, prompt: str, prompt_format: str) -> PlannedSubtask:
        planner, seen = self._planner, work.observation
        if self._turns is None:
            return planner.plan(seen, prompt=prompt, prompt_format=prompt_format)
        session = work.session
        is_awaited = not isinstance(session, PlanSession) or session.is_awaited
        turn = functools.partial(self._turns.step, is_awaited=is_awaited)
        if isinstance(planner, TurnTakingPlanner):
            return planner.plan_in_turns(
                seen, prompt=prompt, prompt_format=prompt_format, turn=turn
            )
        with turn("plan"):
            return planner.plan(seen, prompt=prompt, prompt_format=prompt_format)

    def reset(self, session: Session) -> None:
        """Planners keep nothing between requests."""

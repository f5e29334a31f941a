"""Decides when the planner runs, and which subtask an action follows. Pure: time is passed in.

A *subject* is what one subtask is about: a session, or one row of a session's batches. A subtask
belongs to one subject and one task. When the task changes or the session starts anew, earlier
subtasks and the runs that are under way are forgotten.

The order of calls: `observed` for every request that needs a subtask, `planned` or `failed` when a
run ends, `subtask` when the action starts, `forget` when a session ends.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from openpi_flash_server.slot.answer import ErrorCode, Failure

MAX_SUBJECTS = 4096
"""The subject that was observed longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the planner runs.

    Attributes:
        every_request: whether every request waits for a subtask of its own observation.
        period: from one run for a subject to its next one, s, unless every request has its own.
        longest_wait: how long a request waits for a subtask, s.
        oldest: how old a subtask may be that an action follows, s.
    """

    every_request: bool
    period: float
    longest_wait: float
    oldest: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the planner.

    Attributes:
        subject: for whom.
        task: what the robot is to do.
        observed_at: when its observation came, s.
        is_awaited: whether a request waits for it.
        number: of the run, from 1.
        life: number of the subject's task; another one when the task changes.
    """

    subject: Hashable
    task: str
    observed_at: float
    is_awaited: bool
    number: int
    life: int


@dataclass(frozen=True, slots=True)
class Observed:
    """What an observation asks of the planner.

    Attributes:
        plan: to start now; None if none is due.
        awaited: whose result the request waits for; None: it waits for nothing.
        held_until: until when it waits, s; without meaning if it does not wait.
    """

    plan: Plan | None
    awaited: Plan | None
    held_until: float


@dataclass(frozen=True, slots=True)
class Known:
    """The subtask for an action.

    Attributes:
        text: in words; empty if there is none, or if the model ended at once.
        ms: how long planning took.
        age: how much older its observation is than the action's, s.
        problem: why there is none, or none newer; None if all is well.
    """

    text: str
    ms: float
    age: float
    problem: Failure | None


@dataclass(frozen=True, slots=True)
class _Subtask:
    text: str
    ms: float
    observed_at: float
    made_at: float


@dataclass(slots=True)
class _Subject:
    """What is known of one subject's task, named first at `since`, last run for at `ran_at`."""

    task: str
    life: int
    since: float
    ran_at: float = -math.inf
    pending: Plan | None = None
    newest: _Subtask | None = None
    problem: Failure | None = None
    problem_at: float = -math.inf


class SubtaskBoard:
    """The newest subtask of every subject.

    Args:
        pace: how often the planner runs.
        limit: how many subjects are kept.
    """

    def __init__(self, pace: Pace, limit: int = MAX_SUBJECTS) -> None:
        self._pace = pace
        self._limit = limit
        # in the order of their last observation
        self._subjects: OrderedDict[Hashable, _Subject] = OrderedDict()
        self._numbers = itertools.count(1)
        self._lives = itertools.count(1)

    def __len__(self) -> int:
        return len(self._subjects)

    def observed(self, subject: Hashable, task: str, now: float) -> Observed:
        """A request came that needs a subtask."""
        known = self._subjects.get(subject)
        if known is None or known.task != task:
            known = self._subjects[subject] = _Subject(task, next(self._lives), now)
        self._subjects.move_to_end(subject)
        if len(self._subjects) > self._limit:
            self._subjects.popitem(last=False)
        if self._pace.every_request:
            return self._for_this_request(known, subject, now)
        return self._when_due(known, subject, now)

    def is_wanted(self, plan: Plan) -> bool:
        """Whether a run is still for its subject's task."""
        known = self._known(plan)
        return known is not None and known.pending == plan

    def planned(self, plan: Plan, text: str, ms: float, now: float) -> bool:
        """A run has ended; returns whether its subtask was taken."""
        known = self._known(plan)
        if known is None:
            return False
        if known.pending == plan:
            known.pending = None
        if known.newest is not None and known.newest.observed_at > plan.observed_at:
            return False
        known.newest, known.problem = _Subtask(text, ms, plan.observed_at, now), None
        return True

    def failed(self, plan: Plan, problem: Failure | None, now: float) -> bool:
        """A run failed, or was dropped if `problem` is None; returns whether it was wanted."""
        known = self._known(plan)
        if known is None or known.pending != plan:
            return False
        known.pending = None
        if problem is not None:
            known.problem, known.problem_at = problem, now
        return True

    def subtask(self, subject: Hashable, task: str, observed_at: float, now: float) -> Known:
        """What an action follows whose observation came at `observed_at`."""
        known = self._subjects.get(subject)
        if known is None or known.task != task:
            return Known("", 0.0, 0.0, _not_ready("the session has another task by now"))
        problem = self._problem(known, observed_at, now)
        newest = known.newest
        if newest is None or (self._pace.every_request and newest.made_at < observed_at):
            wait = f"the planner gave no subtask within {self._pace.longest_wait:g} s"
            return Known("", 0.0, 0.0, problem or _not_ready(wait))
        age = max(0.0, observed_at - newest.observed_at)
        if age > self._pace.oldest:
            old = f"the newest subtask is older than {self._pace.oldest:g} s"
            return Known("", 0.0, 0.0, problem or _not_ready(old))
        return Known(newest.text, newest.ms, age, problem)

    def waits_since(self, subject: Hashable) -> float | None:
        """When the observation came whose run is under way; None if there is none."""
        known = self._subjects.get(subject)
        return None if known is None or known.pending is None else known.pending.observed_at

    def forget(self, subject: Hashable) -> None:
        """The session ended, or starts anew."""
        self._subjects.pop(subject, None)

    def _for_this_request(self, known: _Subject, subject: Hashable, now: float) -> Observed:
        if known.pending is not None and self._is_overdue(known.pending, now):
            # no robot waits for a planner that hangs
            return Observed(None, None, now)
        known.pending = self._plan(known, subject, now, is_awaited=True)
        return Observed(known.pending, known.pending, now + self._pace.longest_wait)

    def _when_due(self, known: _Subject, subject: Hashable, now: float) -> Observed:
        plan = None
        is_first = known.newest is None and known.problem is None
        if known.pending is None and (is_first or now >= known.ran_at + self._pace.period):
            plan = known.pending = self._plan(known, subject, now, is_awaited=is_first)
        held_until = known.since + self._pace.longest_wait
        awaited = known.pending if is_first and now < held_until else None
        return Observed(plan, awaited, held_until)

    def _plan(self, known: _Subject, subject: Hashable, now: float, *, is_awaited: bool) -> Plan:
        known.ran_at = now
        return Plan(subject, known.task, now, is_awaited, next(self._numbers), known.life)

    def _known(self, plan: Plan) -> _Subject | None:
        known = self._subjects.get(plan.subject)
        return known if known is not None and known.life == plan.life else None

    def _problem(self, known: _Subject, observed_at: float, now: float) -> Failure | None:
        if known.pending is not None and self._is_overdue(known.pending, now):
            return _not_ready(f"the planner has not answered for {self._pace.longest_wait:g} s")
        if self._pace.every_request and known.problem_at < observed_at:
            return None
        return known.problem

    def _is_overdue(self, plan: Plan, now: float) -> bool:
        return now >= plan.observed_at + self._pace.longest_wait


def _not_ready(message: str) -> Failure:
    return Failure(ErrorCode.NOT_READY, message)

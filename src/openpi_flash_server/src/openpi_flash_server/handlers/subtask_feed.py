"""Asks the planner's slot for the subtasks of the action slot's requests, and keeps its answers.

It is the gate of the action slot: a request that needs a subtask waits in that slot, so it can be
cancelled, superseded or late as any other, and costs no action then. The action's thread never
waits for the planner.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import DEFAULT_CONTROLS
from openpi_flash_server.handlers.subtask_board import Known, Observed, Pace, Plan, SubtaskBoard
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.repeat_limit import RepeatLimit
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure, Reply, RequestFailed
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.gate import Admission
from openpi_flash_server.slot.session import PlanSession, Session
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.ticket import Ticket
from openpi_flash_server.slot.work import RequestMode, Work

log = EventLogger(__name__)

FAILURES = 3
"""Runs that fail one after the other before `/healthz` of the planner says so."""

Subject = tuple[Session, int]
"""A session and a row of its batches."""


class SubtaskFeed:
    """The subtasks of one action slot, whose gate it is.

    Args:
        planner: the planner's slot.
        pace: how often the planner runs.
        task_of: the task of a request; raises ObservationError if the handler refuses it.
    """

    def __init__(self, planner: Slot, *, pace: Pace, task_of: Callable[[Work], str]) -> None:
        self._planner = planner
        self._release: Callable[[Session], None] | None = None
        self._pace = pace
        self._task_of = task_of
        self._board = SubtaskBoard(pace)
        self._asked: dict[Subject, _Asked] = {}
        self._held: dict[Session, set[Subject]] = {}
        self._rows: defaultdict[Session, set[int]] = defaultdict(set)
        self._failures = 0
        self._is_reported = False
        self._repeats = RepeatLimit()
        # guards everything above; nothing else is locked while it is held
        self._lock = threading.Lock()

    def attach(self, release: Callable[[Session], None]) -> None:
        """Takes the function that lets a waiting request of the slot run."""
        self._release = release

    def admit(self, ticket: Ticket, now: float) -> Admission:
        """Holds a request that needs a subtask which is not there yet."""
        del now  # ages and waits count from the receipt
        plans: list[tuple[Plan, Work]] = []
        held_until: list[float] = []
        with self._lock:
            waits_for: set[Subject] = set()
            for work in ticket.works:
                observed = self._observe(work, ticket.received_at)
                if observed is None:
                    continue
                if observed.plan is not None:
                    plans.append((observed.plan, work))
                if observed.awaited is not None:
                    self._ask(observed.awaited, (work.session, work.row), ticket)
                    waits_for.add((work.session, work.row))
                    held_until.append(observed.held_until)
            self._held.pop(ticket.session, None)
            if waits_for:
                self._held[ticket.session] = waits_for
        begin = functools.partial(self._start, plans, ticket) if plans else None
        return Admission(max(held_until, default=None), begin)

    def forget(self, session: Session) -> None:
        """The session's subtasks are of no use any more."""
        with self._lock:
            self._held.pop(session, None)
            for row in self._rows.pop(session, ()):
                self._board.forget((session, row))
                self._asked.pop((session, row), None)

    def subtask_for(self, work: Work, task: str) -> dict[str, Any]:
        """The `subtask` of a reply to `work`; returns at once.

        Raises:
            RequestFailed: the planner cannot use the observation of this very request.
        """
        now = self._planner.clock()
        subject = (work.session, work.row)
        with self._lock:
            known = self._board.subtask(subject, task, work.received_at, now)
            # a later action will follow the subtask of a run under way, whoever leaves now
            self._asked.pop(subject, None)
            since = self._board.waits_since(subject)
            hangs = since is not None and now - since > self._pace.oldest
            self._is_reported = self._is_reported or hangs
        if since is not None and hangs:
            self._planner.is_failing(f"no answer for {now - since:.0f} s")
        if known.problem is not None:
            self._heed(known, known.problem, now)
        subtask = {"text": known.text, "ms": known.ms, "age_ms": known.age * 1000}
        if known.problem is not None:
            code, message = str(known.problem.code), known.problem.message
            subtask["error"] = {"code": code, "message": message}
        if work.mode is RequestMode.SUBTASK_ONLY and known.problem is not None and not known.text:
            raise RequestFailed(known.problem)
        return subtask

    def _observe(self, work: Work, now: float) -> Observed | None:
        if work.mode is RequestMode.ACTION_ONLY:
            return None
        try:
            task = self._task_of(work)
        except ObservationError:
            return None  # the handler refuses it
        self._rows[work.session].add(work.row)
        return self._board.observed((work.session, work.row), task, now)

    def _ask(self, plan: Plan, subject: Subject, ticket: Ticket) -> None:
        asked = self._asked.get(subject)
        if asked is None or asked.plan != plan:
            asked = self._asked[subject] = _Asked(plan)
        asked.have_left.append(ticket.is_cancelled)

    def _heed(self, known: Known, problem: Failure, now: float) -> None:
        if self._pace.every_request and problem.code not in _PLANNER_TROUBLE:
            # the same observation: the action is not worth computing
            raise RequestFailed(problem)
        key = (problem.code, bool(known.text))
        with self._lock:
            times = self._repeats.occurred(key, now)
        if times:
            log.warning(
                "acting on an old subtask" if known.text else "acting without a subtask",
                code=problem.code,
                reason=problem.message,
                times=times,
            )

    def _start(self, plans: list[tuple[Plan, Work]], ticket: Ticket) -> None:
        for plan, work in plans:
            subject = (work.session, work.row)
            session = PlanSession(work.session, work.row, plan.is_awaited)
            self._planner.submit(
                Ticket(
                    works=(
                        dataclasses.replace(
                            work,
                            observation={**work.observation, "prompt": plan.task},
                            mode=RequestMode.SUBTASK_ONLY,
                            controls=DEFAULT_CONTROLS,
                            session=session,
                            row=0,
                            # the client means the action slot's, which checks it
                            expected_artifact=None,
                        ),
                    ),
                    is_batch=False,
                    client=_ACTION_SLOT,
                    received_at=plan.observed_at,
                    decode_ms=0.0,
                    deadline=ticket.deadline if self._pace.every_request else None,
                    respond=functools.partial(self._ended, plan, subject),
                    is_cancelled=functools.partial(self._is_unwanted, plan, subject),
                )
            )

    def _is_unwanted(self, plan: Plan, subject: Subject) -> bool:
        with self._lock:
            if not self._board.is_wanted(plan):
                return True
            asked = self._asked.get(subject)
            have_left = [] if asked is None or asked.plan != plan else list(asked.have_left)
        return bool(have_left) and all(has_left() for has_left in have_left)

    def _ended(self, plan: Plan, subject: Subject, answer: Answer) -> None:
        now = self._planner.clock()
        with self._lock:
            if isinstance(answer, Reply):
                subtask = answer.result["subtask"]
                is_news = self._board.planned(plan, subtask["text"], subtask["ms"], now)
            else:
                is_drop = answer.code is ErrorCode.SUPERSEDED
                is_news = self._board.failed(plan, None if is_drop else answer, now)
            health = self._health(answer)
            is_released = is_news and self._is_last_awaited(subject)
        if health is not None:
            self._planner.is_failing(health)
        if is_released and self._release is not None:
            self._release(subject[0])

    def _is_last_awaited(self, subject: Subject) -> bool:
        """Whether the session's waiting request waits for nothing else."""
        session, _ = subject
        awaited = self._held.get(session)
        if awaited is None:
            return False
        awaited.discard(subject)
        if awaited:
            return False
        del self._held[session]
        return True

    def _health(self, answer: Answer) -> str | None:
        """What `/healthz` of the planner is to say from now on; None: no change."""
        if isinstance(answer, Reply):
            was_reported, self._is_reported, self._failures = self._is_reported, False, 0
            return "" if was_reported else None
        if answer.code is not ErrorCode.INTERNAL:
            return None
        self._failures += 1
        if self._failures < FAILURES:
            return None
        self._is_reported = True
        return f"the last {self._failures} runs failed: {answer.message}"


@dataclasses.dataclass(slots=True)
class _Asked:
    """An awaited run; it is dropped if everybody who waits for it has left."""

    plan: Plan
    have_left: list[Callable[[], bool]] = dataclasses.field(default_factory=list)


_ACTION_SLOT = Client("action slot", "action slot")

_PLANNER_TROUBLE = {ErrorCode.INTERNAL, ErrorCode.NOT_READY}
"""Failures of the planner itself."""

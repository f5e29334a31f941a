"""The goal that the robot runs for: how it begins, and what ends it.

It drives a `Bridge` as people do, by its services. At the end of a goal the robot holds, until the
next goal or until a person lets it go on without one.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.run_state import (
    Order,
    condition_of,
    is_active,
    is_ordered,
    latched,
    without,
)
from openpi_flash_robot.hold import HoldKind
from openpi_flash_robot.nanoseconds import to_seconds


class EndReason(enum.IntEnum):
    """Why a goal has ended: the numbers of RunPolicy's result; a test holds them equal."""

    NONE = 0
    COMPLETED = 1
    TIMEOUT = 2
    CANCELED = 3
    FAULT = 4
    DEACTIVATED = 5
    SUPERSEDED = 6
    REJECTED = 7
    HELD = 8


@dataclass(frozen=True)
class Goal:
    """What the robot is to do.

    Attributes:
        goal_id: names it.
        prompt: the instruction; empty keeps the current one.
        max_duration_ns: how long; 0 is without limit.
    """

    goal_id: Hashable
    prompt: str
    max_duration_ns: int = 0


@dataclass(frozen=True)
class GoalEnd:
    """A goal has ended.

    Attributes:
        goal_id: which one.
        reason: for programs.
        message: for people.
        elapsed: seconds that it ran.
    """

    goal_id: Hashable
    reason: EndReason
    message: str
    elapsed: float


class GoalRun:
    """Follows one goal at a time. `take_ends` says which have ended since it was last called."""

    def __init__(self, bridge: Bridge[Any]) -> None:
        """Begin without a goal.

        Args:
            bridge: whose robot runs.
        """
        self._bridge = bridge
        self._goal: Goal | None = None
        self._last_ns = self._ran_ns = 0
        self._ends: list[GoalEnd] = []

    @property
    def goal(self) -> Goal | None:
        """The goal that the robot runs for; None for none."""
        return self._goal

    @property
    def elapsed(self) -> float:
        """Seconds that it has run; 0 without a goal."""
        return to_seconds(self._ran_ns) if self._goal is not None else 0.0

    def refusal(self) -> str:
        """Why no goal may begin; empty if one may."""
        bridge = self._bridge
        told = condition_of(without(bridge.run_state, Order.NO_GOAL))
        if told is not None:
            return told.message
        return self._needs_person()

    def begin(self, now: int, goal: Goal, *, anew: bool = False) -> None:
        """Run for a goal; one that runs is superseded, and the robot goes on without a stop.

        Args:
            now: this moment.
            goal: what the robot is to do.
            anew: forget the running chunk and the policy's state first.
        """
        if refusal := self.refusal():
            self._ends.append(GoalEnd(goal.goal_id, EndReason.REJECTED, refusal, 0.0))
            return
        self._count(now)
        if self._goal is not None:
            self._note_end(EndReason.SUPERSEDED, "a newer goal runs")
        self._goal, self._last_ns, self._ran_ns = goal, now, 0
        self._bridge.begin_goal(now, goal.prompt, anew=anew)

    def cancel(self, now: int, goal_id: Hashable | None = None) -> bool:
        """End a goal at once; whether it ran.

        Args:
            now: this moment.
            goal_id: which one; None: whichever runs.
        """
        if self._goal is None or goal_id not in (None, self._goal.goal_id):
            return False
        self._count(now)
        self._end(now, EndReason.CANCELED, "canceled")
        return True

    def tick(self, now: int) -> None:
        """End the goal if its time is over, or if something has stopped the robot for good."""
        if self._goal is None:
            return
        self._count(now)
        reason, message = self._stopper()
        if reason is EndReason.NONE and 0 < self._goal.max_duration_ns <= self._ran_ns:
            limit_s = to_seconds(self._goal.max_duration_ns)
            reason, message = EndReason.TIMEOUT, f"max_duration of {limit_s:g} s is over"
        if reason is not EndReason.NONE:
            self._end(now, reason, message)

    def take_ends(self) -> list[GoalEnd]:
        """The goals that have ended, in order; each is handed out once."""
        ends, self._ends = self._ends, []
        return ends

    def _stopper(self) -> tuple[EndReason, str]:
        """What has stopped the robot until a person acts."""
        state = self._bridge.run_state
        if not is_active(state):
            return EndReason.DEACTIVATED, "the node is not active any more"
        if is_ordered(state, Order.HELD):
            return EndReason.HELD, "held by ~/hold"
        reason = latched(state)
        message = self._needs_person() if reason is None else reason.message
        return (EndReason.FAULT, message) if message else (EndReason.NONE, "")

    def _needs_person(self) -> str:
        """What else a person has to see to; empty for nothing."""
        stop = self._bridge.stop
        if stop is not None and stop.kind is HoldKind.EMERGENCY_STOP:
            return stop.message
        return self._bridge.unready or self._bridge.server.fault

    def _count(self, now: int) -> None:
        # a clock that was set back takes nothing away, and 0 is one that has not begun
        self._ran_ns += max(0, now - self._last_ns) if self._last_ns > 0 else 0
        self._last_ns = now

    def _end(self, now: int, reason: EndReason, message: str) -> None:
        self._note_end(reason, message)
        self._bridge.end_goal(now, message)

    def _note_end(self, reason: EndReason, message: str) -> None:
        assert self._goal is not None
        self._ends.append(GoalEnd(self._goal.goal_id, reason, message, self.elapsed))
        self._goal = None

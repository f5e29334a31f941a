"""When a file is due: some time after a fault, on request, and at the end after a fault."""

from __future__ import annotations

from openpi_flash_robot.bridge.status import Cause, State, Status
from openpi_flash_robot.nanoseconds import SECOND

AFTER_NS = 2 * SECOND
"""How long is waited, so that the file holds what came after."""
AGAIN_NS = 60 * SECOND
"""For how long the same cause makes no second file."""
ON_REQUEST = "request"

CAUSES = frozenset(
    {Cause.TRACKING, Cause.COMMANDER, Cause.EMERGENCY_STOP, Cause.BAD_CHUNK, Cause.START_JUMP}
)
"""Causes to hold that a person should look into; besides them, every FAULT."""
ORDINARY_BEFORE_RUNNING = frozenset({Cause.COMMANDER, Cause.EMERGENCY_STOP})
"""A robot that has not run yet waits for its controllers and for its stop buttons."""


class Trigger:
    """Follows the status; times are nanoseconds on a steady clock."""

    def __init__(self) -> None:
        self._last: tuple[State, Cause, bool] | None = None
        self._has_run = False
        self._taken_ns: dict[Cause, int] = {}
        self._pending: tuple[int, Cause] | None = None
        self._pending_lasts = False
        self._unwritten: Cause | None = None

    def status(self, now: int, status: Status) -> None:
        """Take the status of this moment; what counts is that a fault begins."""
        self._has_run |= status.state is State.RUNNING
        current = (status.state, status.cause, status.condition.resumes_by_itself)
        if current == self._last:
            return
        self._last = current
        if not self._is_fault(status):
            return
        cause = status.cause
        self._unwritten = cause
        taken_ns = self._taken_ns.get(cause)
        if taken_ns is not None and now - taken_ns < AGAIN_NS:
            return
        self._taken_ns[cause] = now
        if self._pending is None:  # else the file that is due holds this one too
            self._pending = (now + AFTER_NS, cause)
            self._pending_lasts = status.state is State.FAULT and not self._has_run

    def due(self, now: int) -> str | None:
        """For what a file is to be written now; once for each."""
        if self._pending is None or now < self._pending[0]:
            return None
        (_, cause), self._pending = self._pending, None
        if self._pending_lasts and (self._last is None or self._last[0] is not State.FAULT):
            # at start, limits that come with the robot's description are missing for a moment
            self._unwritten = None
            del self._taken_ns[cause]
            return None
        self._unwritten = None
        return cause.name.lower()

    def ask(self) -> str:
        """Somebody asks for a file: the cause that it is written for."""
        if self._pending is None:
            self._unwritten = None
        return ON_REQUEST

    def failed(self) -> None:
        """A file that was due could not be written: the end is another try."""
        self._unwritten = self._unwritten or Cause.NONE

    def end(self) -> str | None:
        """At the end: for what a file is still to be written; None if for nothing."""
        unwritten, self._unwritten, self._pending = self._unwritten, None, None
        if unwritten is None:
            return None
        return "shutdown" if unwritten is Cause.NONE else unwritten.name.lower()

    def _is_fault(self, status: Status) -> bool:
        if status.state is State.FAULT:
            return True
        if status.state is not State.HOLDING or status.cause not in CAUSES:
            return False
        waits = status.cause in ORDINARY_BEFORE_RUNNING and status.condition.resumes_by_itself
        return self._has_run or not waits

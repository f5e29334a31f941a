"""Chooses the request that a slot runs next. Pure: no thread, clock or socket; time is an argument.

At most one request of a session waits: a newer observation replaces it and keeps its turn. So a
robot that sends fast gets no actions for stale frames, does not delay other robots, and does not
lose its own turn. Sessions are served first come, first served. The scheduler does not follow
requests that it has handed out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Schedulable(Protocol):
    """What the scheduler reads of a request."""

    @property
    def session(self) -> Hashable:
        """The session it belongs to; only the newest request of a session is worth running."""

    @property
    def deadline(self) -> float | None:
        """The latest time to start it, in the caller's seconds; None for no limit."""

    @property
    def is_cancelled(self) -> Callable[[], bool]:
        """Tells whether the client no longer waits for the answer."""


R = TypeVar("R", bound=Schedulable)


class DropReason(enum.Enum):
    """Why a request leaves without having been run."""

    SUPERSEDED = enum.auto()
    DEADLINE_EXCEEDED = enum.auto()
    CANCELLED = enum.auto()
    FULL = enum.auto()


@dataclass(frozen=True, slots=True)
class Dropped(Generic[R]):
    """A request that will not be run, and why."""

    request: R
    reason: DropReason


class Scheduler(Generic[R]):
    """The requests that wait for one slot.

    Args:
        capacity: how many sessions may wait at once; the next one is refused.
    """

    def __init__(self, *, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        # a dict keeps a key's place when its value is replaced: that is the session's turn
        self._waiting: dict[Hashable, R] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, request: R, now: float) -> list[Dropped[R]]:
        """Queues `request`; returns the requests that this drops, which may include itself."""
        older = self._waiting.get(request.session)
        if older is not None:
            self._waiting[request.session] = request
            return [Dropped(older, _expired(older, now) or DropReason.SUPERSEDED)]
        dropped: list[Dropped[R]] = []
        if len(self._waiting) >= self._capacity:
            dropped = self._drop_expired(now)
        if len(self._waiting) >= self._capacity:
            return [*dropped, Dropped(request, DropReason.FULL)]
        self._waiting[request.session] = request
        return dropped

    def next(self, now: float) -> tuple[R | None, list[Dropped[R]]]:
        """Takes out the request to run now, if any waits, and all that are to be dropped."""
        dropped = self._drop_expired(now)
        for session in self._waiting:
            return self._waiting.pop(session), dropped
        return None, dropped

    def forget(self, session: Hashable) -> R | None:
        """Takes out the waiting request of `session`, which started anew."""
        return self._waiting.pop(session, None)

    def clear(self) -> list[R]:
        """Takes out everything, in order."""
        requests = list(self._waiting.values())
        self._waiting.clear()
        return requests

    def _drop_expired(self, now: float) -> list[Dropped[R]]:
        dropped = [
            Dropped(request, reason)
            for request in self._waiting.values()
            if (reason := _expired(request, now)) is not None
        ]
        for drop in dropped:
            del self._waiting[drop.request.session]
        return dropped


def _expired(request: Schedulable, now: float) -> DropReason | None:
    if request.is_cancelled():
        return DropReason.CANCELLED
    if request.deadline is not None and now >= request.deadline:
        return DropReason.DEADLINE_EXCEEDED
    return None

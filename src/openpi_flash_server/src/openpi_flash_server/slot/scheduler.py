"""Chooses the requests that a slot runs next. Pure: no thread, clock or socket; time is passed in.

At most one request of a session waits: a newer observation replaces it and keeps its turn. So a
robot that sends fast gets no actions for stale frames, does not delay other robots, and does not
lose its own turn. Sessions are served first come, first served.

The order of calls: `submit` and `end_session` when they happen; `next_batch` after every change and
at `next_wakeup`, until it returns no pieces; `finished` when the pieces have run.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Sequence
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

    @property
    def size(self) -> int:
        """Number of observations; a large request runs in several pieces."""


R = TypeVar("R", bound=Schedulable)


class DropReason(enum.Enum):
    """Why a request leaves without having been run."""

    SUPERSEDED = enum.auto()
    DEADLINE_EXCEEDED = enum.auto()
    CANCELLED = enum.auto()
    FULL = enum.auto()


@dataclass(frozen=True, slots=True)
class Dropped(Generic[R]):
    """A request that will not be run, or not to its end, and why."""

    request: R
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Piece(Generic[R]):
    """Observations of one request that run together.

    Attributes:
        request: whose.
        first: index of the first observation.
        count: how many.
    """

    request: R
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Batch(Generic[R]):
    """What to run now, in one call; nothing if `pieces` is empty.

    Attributes:
        pieces: of several sessions.
        dropped: requests that will not be run.
    """

    pieces: tuple[Piece[R], ...]
    dropped: tuple[Dropped[R], ...]


@dataclass(slots=True)
class _Waiting(Generic[R]):
    """A request of which `given` observations run or have run."""

    request: R
    given: int = 0


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
        self._waiting: dict[Hashable, _Waiting[R]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> list[R]:
        """The requests that wait, by their sessions' turns."""
        return [waiting.request for waiting in self._waiting.values()]

    def submit(self, request: R, now: float) -> list[Dropped[R]]:
        """Queues `request`; returns the requests that this drops, which may include itself."""
        older = self._waiting.get(request.session)
        if older is not None:
            self._waiting[request.session] = _Waiting(request)
            reason = _expired(older.request, now) or DropReason.SUPERSEDED
            return [Dropped(older.request, reason)]
        dropped: list[Dropped[R]] = []
        if len(self._waiting) >= self._capacity:
            dropped = self._drop_expired(now)
        if len(self._waiting) >= self._capacity:
            return [*dropped, Dropped(request, DropReason.FULL)]
        self._waiting[request.session] = _Waiting(request)
        return dropped

    def next_batch(self, now: float, room: int, compatible: Callable[[R, R], bool]) -> Batch[R]:
        """What to run now, and what is to be dropped.

        Args:
            now: the time.
            room: how many observations can be run in one call now; 0 if the device is busy.
            compatible: whether two requests can run in one call.
        """
        dropped = self._drop_expired(now)
        pieces: list[Piece[R]] = []
        for session, waiting in list(self._waiting.items()):
            if room == 0:
                break
            if pieces and not compatible(pieces[0].request, waiting.request):
                continue
            count = min(room, waiting.request.size - waiting.given)
            pieces.append(Piece(waiting.request, waiting.given, count))
            waiting.given += count
            room -= count
            if waiting.given == waiting.request.size:
                del self._waiting[session]
        return Batch(tuple(pieces), tuple(dropped))

    def finished(self, pieces: Sequence[Piece[R]], now: float) -> None:
        """The pieces of one batch have run."""

    def end_session(self, session: Hashable) -> R | None:
        """Takes out the waiting request of a session that ended or starts anew."""
        waiting = self._waiting.pop(session, None)
        return None if waiting is None else waiting.request

    def next_wakeup(self) -> float | None:
        """When to call `next_batch` even if nothing happens; None: not before."""
        return min(
            (
                waiting.request.deadline
                for waiting in self._waiting.values()
                if waiting.request.deadline is not None
            ),
            default=None,
        )

    def clear(self) -> list[R]:
        """Takes out everything, in order."""
        requests = self.waiting
        self._waiting.clear()
        return requests

    def _drop_expired(self, now: float) -> list[Dropped[R]]:
        dropped = [
            Dropped(waiting.request, reason)
            for waiting in self._waiting.values()
            if (reason := _expired(waiting.request, now)) is not None
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

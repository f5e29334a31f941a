"""Which submitted request goes next over a link that carries one at a time.

Pure: no clock, no thread. For links that carry several at once, the compiled half has
`quic/client/lines.rs`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from flash_transport.deadline import NEVER, Deadline

__all__ = ["Progress", "WaitingLine"]

T = TypeVar("T")


class Progress(enum.Enum):
    """How far a request has got."""

    WAITS = "waits"
    IS_CARRIED = "is carried"
    IS_OVER = "is over"


@dataclass(frozen=True, eq=False)
class _Entry(Generic[T]):
    session: str
    request: T
    deadline: Deadline
    not_before: float | None = None


class WaitingLine(Generic[T]):
    """The requests that wait, and the one that the link carries.

    At most one request of a session waits: a newer one supersedes it and takes its turn, so that no
    session starves. A newer request does not supersede the one that the link carries, unless that
    has to be carried again.

    Requests are compared by identity; each is submitted once.
    """

    def __init__(self) -> None:
        # a dict keeps the position of a key whose value is replaced: that is the session's turn
        self._waiting: dict[str, _Entry[T]] = {}
        self._carried: _Entry[T] | None = None

    @property
    def waiting(self) -> list[T]:
        """The requests that wait, in the order of their turns."""
        return [entry.request for entry in self._waiting.values()]

    @property
    def carried(self) -> T | None:
        """The request that the link carries."""
        return None if self._carried is None else self._carried.request

    def submit(self, session: str, request: T, deadline: Deadline = NEVER) -> T | None:
        """Adds a request; returns the older one of its session that it supersedes."""
        older = self._waiting.get(session)
        self._waiting[session] = _Entry(session, request, deadline)
        return None if older is None else older.request

    def take(self, now: float) -> T | None:
        """Takes the next request for the link to carry; None if none is due.

        The one before must be over, or put back.
        """
        for session, entry in self._waiting.items():
            if entry.not_before is None or entry.not_before <= now:
                self._carried = self._waiting.pop(session)
                return entry.request
        return None

    def put_back(self, request: T, not_before: float) -> bool:
        """Lets the carried request wait again, until the time `not_before` at least.

        Returns:
            Whether it waits; False if a newer one of its session supersedes it.
        """
        entry = self._carried
        if entry is None or entry.request is not request:
            return False
        self._carried = None
        if entry.session in self._waiting:
            return False
        self._waiting[entry.session] = _Entry(entry.session, request, entry.deadline, not_before)
        return True

    def finish(self, request: T) -> None:
        """Removes the carried request, which has ended. It may have been withdrawn before."""
        if self._carried is not None and self._carried.request is request:
            self._carried = None

    def withdraw(self, request: T) -> Progress:
        """Removes a request that waits; returns how far it had got.

        One that the link carries stays the carried one until `finish`.
        """
        if self.carried is request:
            return Progress.IS_CARRIED
        for session, entry in self._waiting.items():
            if entry.request is request:
                del self._waiting[session]
                return Progress.WAITS
        return Progress.IS_OVER

    def give_way(self, session: str) -> T | None:
        """Removes and returns the request of a session that waits, if there is one."""
        entry = self._waiting.pop(session, None)
        return None if entry is None else entry.request

    def expire(self, now: float) -> list[tuple[T, Deadline]]:
        """Removes and returns the waiting requests whose deadline is over."""
        late = [entry for entry in self._waiting.values() if entry.deadline.is_over(now)]
        for entry in late:
            del self._waiting[entry.session]
        return [(entry.request, entry.deadline) for entry in late]

    def next_expiry(self) -> float | None:
        """The earliest deadline of a waiting request; None if there is no deadline."""
        return _earliest(entry.deadline.at for entry in self._waiting.values())

    def next_turn(self) -> float | None:
        """When `take` will return a request, if it returns none now; None if none waits."""
        return _earliest(entry.not_before for entry in self._waiting.values())

    def clear(self) -> list[T]:
        """Removes all that wait."""
        waiting = self.waiting
        self._waiting.clear()
        return waiting


def _earliest(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)

"""How long the policy takes to answer, from the requests that it has answered."""

from __future__ import annotations

from collections import deque

REMEMBERED = 100
"""Requests; a worst case of long ago should not keep the robot asking early for ever."""


class Turnaround:
    """The times between requests and their answers, nanoseconds."""

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._recent: deque[int] = deque(maxlen=REMEMBERED)

    def note(self, took_ns: int) -> None:
        """Take the time of one more request that was answered."""
        if self._first_ns is None:
            # it may have waited for a connection, and for a model that compiles
            self._first_ns = took_ns
        else:
            self._recent.append(took_ns)

    @property
    def expected_ns(self) -> int:
        """The worst of the recent ones; the first one's while it is the only one, 0 before."""
        if self._recent:
            return max(self._recent)
        return self._first_ns or 0

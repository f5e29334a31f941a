"""Counts a slot's requests by outcome, and measures how long they took. Pure: it reads events.

Counts and times cover the span since the last summary. Times are kept as a histogram with steps of
2 %, so that a summary costs the same at any request rate.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from dataclasses import dataclass

from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply
from openpi_flash_server.slot.events import Answered, Dropped, Event, Received


class Outcome(enum.Enum):
    """How a request ended."""

    ANSWERED = enum.auto()
    """By the model's result."""
    SUPERSEDED = enum.auto()
    """A newer observation replaced it, or its client gave it up."""
    REFUSED = enum.auto()
    """It was wrong, late, or came while the slot took none."""
    FAILED = enum.auto()
    """The server's fault."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a time, ms; 0 where nothing was measured."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened in a span.

    Attributes:
        seconds: length of the span.
        received: number of requests; those still running at the end have no outcome yet.
        outcomes: number of requests by outcome.
        queue_ms: how long answered requests waited for their turn.
        infer_ms: how long the handler took for them.
    """

    seconds: float
    received: int
    outcomes: dict[Outcome, int]
    queue_ms: Percentiles
    infer_ms: Percentiles


class Tally:
    """Counts requests until the next summary.

    Args:
        now: when the first span begins, monotonic s.
    """

    def __init__(self, now: float) -> None:
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since = now
        self._received = 0
        self._outcomes = dict.fromkeys(Outcome, 0)
        self._queue = _Histogram()
        self._infer = _Histogram()

    def count(self, event: Event) -> None:
        """Takes one event into account."""
        if isinstance(event, Received):
            self._received += 1
        elif isinstance(event, Dropped):
            self._outcomes[_outcome(event)] += 1
        elif isinstance(event, Answered):
            self._outcomes[_outcome(event)] += 1
            if isinstance(event.answer, Reply) and event.timing is not None:
                self._queue.add(event.timing.queue_ms)
                self._infer.add(event.timing.infer_ms)

    def take(self, now: float) -> Summary | None:
        """What happened since the last call; None if nothing did. A new span begins."""
        summary = None
        if self._received or any(self._outcomes.values()):
            summary = Summary(
                seconds=now - self._since,
                received=self._received,
                outcomes=self._outcomes,
                queue_ms=self._queue.percentiles(),
                infer_ms=self._infer.percentiles(),
            )
        self._begin(now)
        return summary


def _outcome(event: Answered | Dropped) -> Outcome:
    if isinstance(event.answer, Failure):
        return _OUTCOMES[event.answer.code]
    return Outcome.ANSWERED


class _Histogram:
    """Times in ms, by the number of the step that they fall into."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, ms: float) -> None:
        self._counts[round(math.log(max(ms, _SHORTEST)) / _STEP)] += 1

    def percentiles(self) -> Percentiles:
        return Percentiles(self._at(0.50), self._at(0.99))

    def _at(self, part: float) -> float:
        left = math.ceil(part * self._counts.total())
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return math.exp(step * _STEP)
        return 0.0


_OUTCOMES = {
    ErrorCode.BAD_REQUEST: Outcome.REFUSED,
    ErrorCode.UNAUTHENTICATED: Outcome.REFUSED,
    ErrorCode.SUPERSEDED: Outcome.SUPERSEDED,
    ErrorCode.DEADLINE_EXCEEDED: Outcome.REFUSED,
    ErrorCode.NOT_READY: Outcome.REFUSED,
    ErrorCode.INTERNAL: Outcome.FAILED,
}

_STEP = math.log(1.02)
_SHORTEST = 0.01
"""ms."""

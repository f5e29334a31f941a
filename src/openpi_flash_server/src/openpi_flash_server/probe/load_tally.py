"""Counts what became of the requests of a load test. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openpi_flash_server.probe.spread import Spread, spread_of


class Outcome(enum.StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    SUPERSEDED = "superseded"
    TIMEOUT = "timeout"
    FAILED = "failed"


@dataclass(frozen=True)
class LoadRow:
    """What one rate amounted to.

    Attributes:
        clients: how many.
        rate_hz: requests per second of each client.
        seconds: how long requests were sent.
        sent: how many were.
        counts: of them, by outcome; they add up to `sent`.
        latency_ms: of the answered ones, from when they were due; None without any.
        late_ms: after they were due, this machine had sent nine of ten requests within that time.
        errors: how often each error occurred, by its text.
    """

    clients: int
    rate_hz: float
    seconds: float
    sent: int
    counts: Mapping[Outcome, int]
    latency_ms: Spread | None
    late_ms: float
    errors: Mapping[str, int]

    @property
    def answered_per_s(self) -> float:
        """Answers per second."""
        return self.counts[Outcome.ANSWERED] / self.seconds if self.seconds else 0.0

    @property
    def has_errors(self) -> bool:
        """Whether a request ended otherwise than with an answer or a newer observation."""
        return bool(self.counts[Outcome.TIMEOUT] or self.counts[Outcome.FAILED])

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "clients": self.clients,
            "rate_hz": self.rate_hz,
            "seconds": round(self.seconds, 3),
            "sent": self.sent,
            **{str(outcome): self.counts[outcome] for outcome in Outcome},
            "answered_per_s": round(self.answered_per_s, 3),
            "latency_ms": None if self.latency_ms is None else self.latency_ms.as_json(),
            "late_ms": round(self.late_ms, 3),
            "errors": dict(self.errors),
        }


class LoadTally:
    """Collects the requests of one rate.

    Args:
        clients: how many.
        rate_hz: requests per second of each client.
    """

    def __init__(self, clients: int, rate_hz: float) -> None:
        self._clients = clients
        self._rate_hz = rate_hz
        self._latencies: list[float] = []
        self._counts: Counter[Outcome] = Counter()
        self._errors: Counter[str] = Counter()
        self._late: list[float] = []

    def sent(self, *, late: float) -> None:
        """A request left this machine, `late` seconds after it was due."""
        self._late.append(late * 1000)

    def ended(self, outcome: Outcome, *, latency: float = 0.0, error: str = "") -> None:
        """A request ended.

        Args:
            outcome: how.
            latency: seconds from when it was due to its answer.
            error: what went wrong.
        """
        self._counts[outcome] += 1
        if outcome is Outcome.ANSWERED:
            self._latencies.append(latency * 1000)
        elif error:
            self._errors[error] += 1

    def row(self, seconds: float) -> LoadRow:
        """What it amounts to, after `seconds` of sending."""
        late = spread_of(self._late)
        return LoadRow(
            clients=self._clients,
            rate_hz=self._rate_hz,
            seconds=seconds,
            sent=sum(self._counts.values()),
            counts=self._counts.copy(),
            latency_ms=spread_of(self._latencies),
            late_ms=0.0 if late is None else late.p90,
            errors=self._errors.copy(),
        )

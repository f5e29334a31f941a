"""Foresees when a session sends its next request, and how long a batch will run. Pure.

Means and deviations follow as TCP's round-trip times do (RFC 6298).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

MAX_SESSIONS = 4096
"""The session that sent longest ago is forgotten."""

ENOUGH = 3
"""Requests of a session before its next one is foreseen."""

WIDTH = 4.0
"""Deviations around the mean, as in a TCP timeout."""

SHORTEST = 1e-3
"""s: no clock and no network is more regular."""


@dataclass(slots=True)
class _Estimate:
    """A time that repeats, s."""

    mean: float = 0.0
    deviation: float = 0.0
    count: int = 0

    def add(self, sample: float) -> None:
        if self.count == 0:
            self.mean, self.deviation = sample, sample / 2
        else:
            self.deviation += (abs(sample - self.mean) - self.deviation) / 4
            self.mean += (sample - self.mean) / 8
        self.count += 1


@dataclass(slots=True)
class _Rhythm:
    """A session's requests: regular from one to the next, or from an answer to the next."""

    rank: int
    arrived: float | None = None
    answered: float | None = None
    between: _Estimate = field(default_factory=_Estimate)
    pause: _Estimate = field(default_factory=_Estimate)


@dataclass(frozen=True, slots=True)
class Expected:
    """When a session's next request is expected, s.

    Attributes:
        session: whose.
        rank: of its class, as in its last request.
        earliest: hardly before.
        at: most likely.
        latest: hardly after.
    """

    session: Hashable
    rank: int
    earliest: float
    at: float
    latest: float


class Arrivals:
    """The rhythm of every session."""

    def __init__(self) -> None:
        self._rhythms: OrderedDict[Hashable, _Rhythm] = OrderedDict()

    def arrived(self, session: Hashable, rank: int, now: float) -> None:
        """A request came."""
        rhythm = self._rhythms.setdefault(session, _Rhythm(rank))
        rhythm.rank = rank
        self._rhythms.move_to_end(session)
        if rhythm.arrived is not None:
            rhythm.between.add(now - rhythm.arrived)
        if rhythm.answered is not None:
            rhythm.pause.add(now - rhythm.answered)
        rhythm.arrived, rhythm.answered = now, None
        if len(self._rhythms) > MAX_SESSIONS:
            self._rhythms.popitem(last=False)

    def answered(self, session: Hashable, now: float) -> None:
        """Its request was answered."""
        if session in self._rhythms:
            self._rhythms[session].answered = now

    def forget(self, session: Hashable) -> None:
        """The session ended."""
        self._rhythms.pop(session, None)

    def expected(self, now: float) -> Iterator[Expected]:
        """The sessions whose request was answered and whose next one is to come."""
        for session, rhythm in self._rhythms.items():
            if rhythm.arrived is None or rhythm.answered is None:
                continue
            candidates = [
                (estimate.deviation, since + estimate.mean)
                for estimate, since in (
                    (rhythm.between, rhythm.arrived),
                    (rhythm.pause, rhythm.answered),
                )
                if estimate.count >= ENOUGH
            ]
            if not candidates:
                continue
            deviation, at = min(candidates)
            width = max(WIDTH * deviation, SHORTEST)
            if now <= at + width:
                yield Expected(session, rhythm.rank, at - width, at, at + width)


class Durations:
    """How long batches run, by their number of observations."""

    def __init__(self) -> None:
        self._by_size: dict[int, _Estimate] = {}

    def ran(self, size: int, seconds: float) -> None:
        """A batch has run."""
        self._by_size.setdefault(size, _Estimate()).add(seconds)

    def least(self, size: int) -> float:
        """How long the observations will run at least, s; 0 until enough is known."""
        known = [other for other, it in self._by_size.items() if it.count >= ENOUGH]
        if not known:
            return 0.0
        smaller = [other for other in known if other <= size]
        nearest = max(smaller) if smaller else min(known)
        estimate = self._by_size[nearest]
        # a part of a batch takes no less than its share of it
        return max(0.0, estimate.mean - 2 * estimate.deviation) * min(1.0, size / nearest)

    def expected(self, size: int) -> float | None:
        """How long a batch will run at most, s; None if none has run yet."""
        known = [other for other in self._by_size if other <= size]
        nearest = max(known) if known else min(self._by_size, default=None)
        if nearest is None:
            return None
        estimate = self._by_size[nearest]
        margin = 2 * estimate.deviation if estimate.count >= ENOUGH else 0.0
        # a larger batch takes no longer than its parts one after the other
        return (estimate.mean + margin) * max(1.0, size / nearest)

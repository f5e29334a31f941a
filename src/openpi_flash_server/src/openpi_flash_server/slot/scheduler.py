"""Chooses the requests that a slot runs next. Pure: no thread, clock or socket; time is passed in.

- At most one request of a session waits: a newer observation replaces it and keeps its turn.
- Robots come before shadow copies, and these before evaluation. A lower class runs only if a place
  is left for every request of a higher one that is expected before it is over, or if it has waited
  for `LONGEST_HOLD`.
- A request that can hardly be answered before its deadline any more runs only if no other of its
  class waits: a device that all ask too much of goes on giving answers that are of use.
- Within a class everybody who waits gets the same share of the device (`fair_share.py`). Within
  that, a request whose answer is awaited comes before one that refreshes something, then the
  earliest deadline is first, then the longest wait.
- A batch holds requests of one class that can share a call. It waits up to `max_wait` for sessions
  whose next request is expected by then, and for nobody else; nor while another place is free.
- A request that is held does not run before it is released, or its time has come.
- A request past its deadline, or that its client no longer wants, is dropped before it costs
  the device anything.

The order of calls: `submit`, `release` and `end_session` when they happen; `next_batch` after every
change and at `next_wakeup`, until it returns no pieces or nothing waits; `finished` when the pieces
have run. `upcoming` may be asked after `next_batch`, to prepare what runs next.
"""

from __future__ import annotations

import enum
import math
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from openpi_flash_server.slot.fair_share import Draft, FairShare, Path
from openpi_flash_server.slot.forecast import Arrivals, Durations

LONGEST_HOLD = 5.0
"""s that a request of a lower class is held back for a higher one: it then delays at most one
request of a robot in 5 s, which a robot's 99th percentile does not show from 1 Hz on."""

DEADLINE_GRACE = 1.0
"""s after a deadline to look for requests that are late, if nothing happens before: a client with
a timer of its own then sees its own timeout first, not the server's error."""


class Schedulable(Protocol):
    """What the scheduler reads of a request."""

    @property
    def session(self) -> Hashable:
        """The session it belongs to; only the newest request of a session is worth running."""

    @property
    def owner(self) -> Path:
        """Who shares the device and the places: API key, computer, connection."""

    @property
    def rank(self) -> int:
        """Of its class: 0 comes first."""

    @property
    def is_awaited(self) -> bool:
        """Whether something stands still without the answer; else it has an older one."""

    @property
    def deadline(self) -> float | None:
        """When its answer becomes useless, in the caller's seconds; None for never."""

    @property
    def is_cancelled(self) -> Callable[[], bool]:
        """Tells whether the client no longer waits for the answer."""

    @property
    def size(self) -> int:
        """Number of observations; a large request runs in several pieces."""


R = TypeVar("R", bound=Schedulable)

_urgency = operator.attrgetter("urgency")


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
    """A request of which `given` observations run or have run; its session waits since `since`.

    It came at `arrived`, and is held until `held_until`.
    """

    request: R
    since: float
    arrived: float
    given: int = 0
    held_until: float = -math.inf
    path: Path = field(init=False)
    deadline: float = field(init=False)
    # the smallest is first
    urgency: tuple[bool, float] = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        self.path = (*request.owner, request.session)
        self.deadline = math.inf if request.deadline is None else request.deadline
        self.urgency = (not request.is_awaited, self.deadline)

    @property
    def left(self) -> int:
        return self.request.size - self.given


@dataclass(frozen=True, slots=True)
class _Plan(Generic[R]):
    """A batch that may be started, with the shares that it uses."""

    chosen: list[tuple[_Waiting[R], int]]
    draft: Draft

    @property
    def size(self) -> int:
        return sum(count for _, count in self.chosen)


class Scheduler(Generic[R]):
    """The requests that wait for one slot.

    Args:
        capacity: how many sessions may wait at once. Beyond it, a request of a lower class, or of
            the key, computer and connection with the most waiting requests, is refused.
        max_wait: how long a request that could run waits for others to share its batch, s.

    Attributes:
        max_wait: the same; a change holds from the next call on.
    """

    def __init__(self, *, capacity: int, max_wait: float = 0.0) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self.max_wait = max_wait
        # a dict keeps a key's place when its value is replaced: that is the session's turn
        self._waiting: dict[Hashable, _Waiting[R]] = {}
        self._running: Counter[Hashable] = Counter()
        self._started: dict[Piece[R], float] = {}
        self._shares: defaultdict[int, FairShare] = defaultdict(FairShare)
        self._arrivals = Arrivals()
        self._durations = Durations()
        self._last_given: dict[int, float] = {}
        self._free_since = -math.inf
        self._look_again: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> list[R]:
        """The requests that wait, by their sessions' turns."""
        return [waiting.request for waiting in self._waiting.values()]

    def submit(self, request: R, now: float, *, held_until: float = -math.inf) -> list[Dropped[R]]:
        """Queues `request`; returns the requests that this drops, which may include itself.

        Args:
            request: the newest of its session.
            now: the time.
            held_until: when it may run even if it is not released before.
        """
        self._arrivals.arrived(request.session, request.rank, now)
        older = self._waiting.get(request.session)
        if older is not None:
            self._waiting[request.session] = _Waiting(
                request, older.since, now, held_until=held_until
            )
            reason = _expired(older.request, now) or DropReason.SUPERSEDED
            return [Dropped(older.request, reason)]
        dropped: list[Dropped[R]] = []
        if len(self._waiting) >= self._capacity:
            dropped = self._drop_expired(now)
        if len(self._waiting) >= self._capacity:
            refused = self._least_entitled(request)
            dropped.append(Dropped(refused, DropReason.FULL))
            if refused is request:
                return dropped
            del self._waiting[refused.session]
        newcomer = _Waiting(request, now, now, held_until=held_until)
        if request.session not in self._running:
            others = (
                waiting.path
                for waiting in self._waiting.values()
                if waiting.request.rank == request.rank
            )
            self._shares[request.rank].begins(newcomer.path, others)
        self._waiting[request.session] = newcomer
        return dropped

    def next_batch(
        self,
        now: float,
        room: int,
        compatible: Callable[[R, R], bool],
        *,
        places: int = 1,
        can_start: Callable[[R], bool] | None = None,
    ) -> Batch[R]:
        """What to run now, and what is to be dropped.

        Args:
            now: the time.
            room: how many observations can be run in one call now; 0 if the device is busy.
            compatible: whether two requests can run in one call.
            places: how many calls can be started now.
            can_start: whether one of them can take the request; None: each can.
        """
        dropped = tuple(self._drop_expired(now))
        self._look_again = None
        ranks = set()
        for waiting in self._waiting.values():
            ranks.add(waiting.request.rank)
            if waiting.held_until <= now:
                waiting.held_until = -math.inf
        if room == 0:
            return Batch((), dropped)
        for rank in sorted(ranks):
            plan = self._plan(rank, room, compatible, can_start, now)
            fitting = self._fit(plan, rank, places, now)
            if fitting < plan.size:
                plan = self._plan(rank, fitting, compatible, can_start, now)
            if plan.chosen and places == 1 and self._is_worth_waiting(plan, rank, room, now):
                break
            if plan.chosen:
                return Batch(self._give(plan, now), dropped)
        return Batch((), dropped)

    def upcoming(
        self, now: float, room: int, compatible: Callable[[R, R], bool]
    ) -> tuple[Piece[R], ...]:
        """What would run next if nothing else came, once what runs has ended; changes nothing.

        Requests that are held are named only if no other waits.

        Args:
            now: the time.
            room: how many observations can be run in one call.
            compatible: whether two requests can run in one call.
        """
        waiting = sorted(self._waiting.values(), key=lambda one: (_is_held(one), one.request.rank))
        if not waiting:
            return ()
        rank, is_held = waiting[0].request.rank, _is_held(waiting[0])
        candidates = [
            one for one in waiting if one.request.rank == rank and _is_held(one) == is_held
        ]
        plan = self._compose(rank, candidates, room, compatible, now)
        return tuple(Piece(one.request, one.given, count) for one, count in plan.chosen)

    def finished(self, pieces: Sequence[Piece[R]], now: float) -> None:
        """The pieces of one batch have run."""
        started = now
        for piece in pieces:
            session = piece.request.session
            started = self._started.pop(piece, now)
            self._running[session] -= 1
            if self._running[session] <= 0:
                del self._running[session]
            if piece.first + piece.count == piece.request.size:
                self._arrivals.answered(session, now)
        self._free_since = now
        if pieces:
            self._durations.ran(sum(piece.count for piece in pieces), now - started)

    def release(self, session: Hashable) -> None:
        """Lets the session's waiting request run, if there is one."""
        waiting = self._waiting.get(session)
        if waiting is not None:
            waiting.held_until = -math.inf

    def end_session(self, session: Hashable) -> R | None:
        """Takes out the waiting request of a session that ended or starts anew."""
        self._arrivals.forget(session)
        waiting = self._waiting.pop(session, None)
        return None if waiting is None else waiting.request

    def next_wakeup(self) -> float | None:
        """When to call `next_batch` even if nothing happens; None: not before."""
        at = math.inf if self._look_again is None else self._look_again
        for waiting in self._waiting.values():
            # most have neither
            if waiting.deadline != math.inf:
                at = min(at, waiting.deadline + DEADLINE_GRACE)
            if waiting.held_until != -math.inf:
                at = min(at, waiting.held_until)
        return None if at == math.inf else at

    def clear(self) -> list[R]:
        """Takes out everything, in order."""
        requests = self.waiting
        self._waiting.clear()
        return requests

    def _plan(
        self,
        rank: int,
        room: int,
        compatible: Callable[[R, R], bool],
        can_start: Callable[[R], bool] | None,
        now: float,
    ) -> _Plan[R]:
        """The best batch of a class for the room."""
        candidates = [
            waiting
            for session, waiting in self._waiting.items()
            if waiting.request.rank == rank
            and waiting.held_until == -math.inf
            and (waiting.given or session not in self._running)
            and (can_start is None or can_start(waiting.request))
        ]
        return self._compose(rank, candidates, room, compatible, now)

    def _compose(
        self,
        rank: int,
        candidates: list[_Waiting[R]],
        room: int,
        compatible: Callable[[R, R], bool],
        now: float,
    ) -> _Plan[R]:
        draft = self._shares[rank].draft()
        chosen: list[tuple[_Waiting[R], int]] = []
        in_time = self._in_time(candidates, room, now)
        # the others join nobody's batch, which would only become longer
        candidates = in_time or candidates
        size, until = 0, math.inf
        while room > size and candidates:
            eligible = draft.eligible([waiting.path for waiting in candidates])
            # `min` takes the first of equals: the one that has waited longest
            best = min(
                [waiting for waiting in candidates if waiting.path in eligible], key=_urgency
            )
            count = min(room - size, best.left)
            sooner = min(until, best.deadline)
            if not chosen or not in_time or now + self._durations.least(size + count) <= sooner:
                draft.charge(best.path, count)
                chosen.append((best, count))
                size, until = size + count, sooner
                if size == room:
                    break
            first = chosen[0][0].request
            candidates = [
                one for one in candidates if one is not best and compatible(first, one.request)
            ]
        return _Plan(chosen, draft)

    def _fit(self, plan: _Plan[R], rank: int, places: int, now: float) -> int:
        """How many observations of the plan may run before a higher class needs the place."""
        # nothing is higher than the first class
        if not plan.chosen or rank == 0:
            return plan.size
        expected = [
            expected
            for expected in self._arrivals.expected(now)
            if expected.rank < rank and expected.session not in self._waiting
        ]
        if len(expected) < places:
            return plan.size
        since = min(waiting.since for waiting, _ in plan.chosen)
        held_until = max(since, self._last_given.get(rank, -math.inf)) + LONGEST_HOLD
        if now >= held_until:
            return 1
        # those that come before it find the other places
        free_until = sorted(one.earliest for one in expected)[places - 1]
        for size in range(plan.size, 0, -1):
            duration = self._durations.expected(size)
            if duration is None or now + duration <= free_until:
                return size if duration is not None else 1
        latest = sorted(one.latest for one in expected)[places - 1]
        self._wake(min(held_until, math.nextafter(latest, math.inf)))
        return 0

    def _in_time(self, candidates: list[_Waiting[R]], room: int, now: float) -> list[_Waiting[R]]:
        """Those that may still be answered before their deadline, if they start now.

        A request that had time for two of the batches that the candidates fill is out of time once
        it has none for one, for a smaller batch would cost others more than it saves.
        """
        if all(one.deadline == math.inf for one in candidates):
            return candidates
        size = room if len(candidates) >= room else min(room, sum(one.left for one in candidates))
        batch = self._durations.least(size)
        found = []
        for one in candidates:
            is_patient = one.deadline - one.arrived >= 2 * batch
            needed = batch if is_patient else self._durations.least(one.left)
            if now + needed <= one.deadline:
                found.append(one)
        return found

    def _is_worth_waiting(self, plan: _Plan[R], rank: int, room: int, now: float) -> bool:
        """Whether the batch is not full and another session will join it in time."""
        if plan.size >= room or not self.max_wait:
            return False
        until = min(self._latest_start(waiting) for waiting, _ in plan.chosen)
        if now >= until:
            return False
        for expected in self._arrivals.expected(now):
            joins = expected.rank == rank and expected.session not in self._waiting
            if joins and expected.at <= until:
                self._wake(until)
                return True
        return False

    def _latest_start(self, waiting: _Waiting[R]) -> float:
        latest = max(waiting.since, self._free_since) + self.max_wait
        if waiting.request.deadline is None:
            return latest
        # never more than half of the time that is left for the answer
        return min(latest, (waiting.since + waiting.request.deadline) / 2)

    def _give(self, plan: _Plan[R], now: float) -> tuple[Piece[R], ...]:
        pieces = []
        for waiting, count in plan.chosen:
            piece = Piece(waiting.request, waiting.given, count)
            waiting.given += count
            if not waiting.left:
                del self._waiting[waiting.request.session]
            self._running[waiting.request.session] += 1
            self._started[piece] = now
            pieces.append(piece)
            self._last_given[waiting.request.rank] = now
        plan.draft.commit()
        return tuple(pieces)

    def _wake(self, at: float) -> None:
        self._look_again = at if self._look_again is None else min(self._look_again, at)

    def _least_entitled(self, newcomer: R) -> R:
        """Whom to refuse: the newest of the lowest class, of whoever holds the most places there.

        Counted from the first owner down: of the key with the most, the computer with the most,
        then the connection.
        """
        requests = [*self.waiting, newcomer]
        lowest = max(request.rank for request in requests)
        left = [request for request in requests if request.rank == lowest]
        for depth in range(1, len(newcomer.owner) + 1):
            counts = Counter(request.owner[:depth] for request in left)
            # of equals the one that came last
            most = max(reversed(left), key=lambda request: counts[request.owner[:depth]])
            left = [request for request in left if request.owner[:depth] == most.owner[:depth]]
        return left[-1]

    def _drop_expired(self, now: float) -> list[Dropped[R]]:
        dropped = [
            Dropped(waiting.request, reason)
            for waiting in self._waiting.values()
            if (waiting.deadline <= now or waiting.request.is_cancelled())
            and (reason := _expired(waiting.request, now)) is not None
        ]
        for drop in dropped:
            del self._waiting[drop.request.session]
        return dropped


def _is_held(waiting: _Waiting[R]) -> bool:
    return waiting.held_until > -math.inf


def _expired(request: Schedulable, now: float) -> DropReason | None:
    if request.is_cancelled():
        return DropReason.CANCELLED
    if request.deadline is not None and now >= request.deadline:
        return DropReason.DEADLINE_EXCEEDED
    return None

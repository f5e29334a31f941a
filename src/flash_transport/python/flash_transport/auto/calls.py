"""Submitted requests of a client that chooses its transport: their futures, and those that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from flash_transport.deadline import Deadline
from flash_transport.errors import Superseded
from flash_transport.first_actions import FirstActions
from flash_transport.futures import InferenceFuture
from flash_transport.policy import Convert
from flash_transport.stats import CallStats

__all__ = ["Call", "Parked", "Sessions", "superseded"]


class Call:
    """A submitted request, whose future ends once, whichever transport carries it.

    Args:
        observation: as the program gave it; a copy, where it waits.
        timeout: of the request, seconds; None: no limit.
        deadline: from then on.
        convert: makes the future's result of the answer; None: the answer.
        first: what is wanted ahead of the answer.
        forget: called with this when the future ends, just before.

    Attributes:
        session: of which only the newest request waits.
        give_up_at: until when it waits for a connection.
        attempts: how often it has waited for one.
        losses: how many were lost before they had begun it.
        finals: how many errors there had been, when it began to wait, that end all waits.
    """

    def __init__(
        self,
        observation: dict[str, Any],
        timeout: float | None,
        deadline: Deadline,
        *,
        convert: Convert | None,
        first: FirstActions | None,
        forget: Callable[[Call], None],
    ) -> None:
        self.observation = observation
        # the program may change the observation
        session = observation.get("session")
        self.session = session if isinstance(session, str) else ""
        self.timeout = timeout
        self.deadline = deadline
        self.give_up_at = 0.0
        self.attempts = 0
        self.losses = 0
        self.finals = 0
        self.first = None if first is None else FirstActions(first.steps, dict)
        self.future = InferenceFuture(self._withdraw, first)
        self._convert = convert
        self._forget = forget
        self._lock = threading.Lock()
        self._is_over = False
        self._carried: InferenceFuture | None = None

    def carry(self, carried: InferenceFuture) -> None:
        """Takes the outcome of the future of a transport."""
        with self._lock:
            self._carried = carried
            is_over = self._is_over
        if is_over:  # it was cancelled meanwhile
            carried.cancel()
        elif carried.first_actions is not None:
            carried.first_actions.add_done_callback(self._take_first)

    def deliver(self, answer: dict[str, Any], stats: CallStats) -> None:
        """Ends the future with an answer."""
        if not self._end():
            return
        self.future._deliver_first(answer)
        if self._convert is not None:
            try:
                answer = self._convert(answer)
            except Exception as error:
                self.future._fail(error)
                return
        self.future._deliver(answer, stats)

    def fail(self, error: BaseException) -> None:
        """Ends the future with an error."""
        if self._end():
            self.future._fail(error)

    def _take_first(self, first: Any) -> None:
        if not first.cancelled() and first.exception() is None:
            self.future._deliver_first(first.result())

    def _withdraw(self) -> None:
        if not self._end():
            return
        with self._lock:
            carried = self._carried
        # wakes threads in concurrent.futures.wait
        self.future.set_running_or_notify_cancel()
        if carried is not None:
            carried.cancel()

    def _end(self) -> bool:
        """Whether the caller is the one that ends the future."""
        with self._lock:
            was_over, self._is_over = self._is_over, True
        if not was_over:
            self._forget(self)
        return not was_over


class Sessions:
    """The calls of each session that have not ended. For one thread at a time.

    The outcomes of calls that no connection has begun come in any order. An older observation must
    not be sent after a newer one then: it would take its place, here or on the server.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[Call]] = {}

    def enter(self, call: Call) -> None:
        """Adds the newest call of its session."""
        self._calls.setdefault(call.session, []).append(call)

    def leave(self, call: Call) -> None:
        """Removes a call that ends."""
        calls = self._calls.get(call.session, [])
        if call in calls:
            calls.remove(call)
        if not calls:
            self._calls.pop(call.session, None)

    def has_newer(self, call: Call) -> bool:
        """Whether a newer call of its session has not ended."""
        calls = self._calls.get(call.session, [])
        return call in calls and calls[-1] is not call


class Parked:
    """Calls that wait for a connection: the newest of each session. For one thread at a time.

    A call is added only if its session has no newer one.
    """

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls.values())

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, call: Call) -> Call | None:
        """Adds a call; returns the older one of its session, which it supersedes."""
        older = self._calls.get(call.session)
        self._calls[call.session] = call
        return older

    def remove(self, call: Call) -> None:
        """Removes a call that ends, if it waits."""
        if self._calls.get(call.session) is call:
            del self._calls[call.session]

    def take_all(self) -> list[Call]:
        """Removes and returns all, in the order of their sessions' turns."""
        calls = list(self._calls.values())
        self._calls.clear()
        return calls

    def take_late(self, now: float) -> list[Call]:
        """Removes and returns those that have waited long enough."""
        late = [call for call in self._calls.values() if call.give_up_at <= now]
        for call in late:
            self.remove(call)
        return late

    def next_late(self) -> float | None:
        """When `take_late` has the next one."""
        return min((call.give_up_at for call in self._calls.values()), default=None)


def superseded() -> Superseded:
    """The error of a call that gave way to a newer one of its session."""
    return Superseded(
        "a newer observation of the session took this one's place before the server had all of it"
    )

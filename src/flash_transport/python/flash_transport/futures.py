"""Futures: the answers to submitted requests."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from flash_transport.first_actions import FirstActions
from flash_transport.stats import CallStats, RoundTrip

__all__ = ["InferenceFuture"]


class InferenceFuture(Future[dict[str, Any]]):
    """The answer to a submitted observation.

    A `concurrent.futures.Future`: `result(timeout)`, `exception()`, `add_done_callback`,
    `concurrent.futures.wait` and `asyncio.wrap_future` work as for any. Callbacks run on the thread
    that delivers the answers: keep them short, the next answer waits for them.

    `cancel()` works until the answer has arrived. The server is told, and drops the work.
    """

    def __init__(
        self, withdraw: Callable[[], None] | None = None, first: FirstActions | None = None
    ) -> None:
        super().__init__()
        self._withdraw = withdraw
        self._stats: CallStats | None = None
        self._first = None if first is None else FirstActionsFuture(first)

    @property
    def first_actions(self) -> Future[dict[str, Any]] | None:
        """The first steps, `actions` [first_actions, D]; None if `submit` asked for none.

        It ends before the answer does: with the steps as soon as they are there, taken from the
        whole answer if they did not come ahead; with the answer's error if that comes first; and
        cancelled when the answer is. Cancelling it leaves the answer alone.
        """
        return self._first

    @property
    def stats(self) -> CallStats | None:
        """The cost of the call; None until it is done, and if there was no answer."""
        return self._stats

    def cancel(self) -> bool:
        """Cancels the request; returns False if the answer has arrived."""
        if not super().cancel():
            return False
        if self._first is not None:
            self._first.cancel()
        if self._withdraw is not None:
            self._withdraw()
        return True

    def _deliver_first(self, answer: Mapping[str, Any]) -> None:
        """Takes first actions, or the answer that holds them; only the first call counts."""
        if self._first is not None:
            self._first.deliver(answer)

    def _deliver(self, answer: dict[str, Any], stats: CallStats) -> None:
        if self.set_running_or_notify_cancel():
            self._stats = stats
            self.set_result(answer)

    def _fail(self, error: BaseException) -> None:
        if self._first is not None:
            self._first.fail(error)
        if self.set_running_or_notify_cancel():
            self.set_exception(error)


class FirstActionsFuture(Future[dict[str, Any]]):
    """The first actions of a request. Ends once, whoever is first.

    Args:
        wanted: what becomes its result.
    """

    def __init__(self, wanted: FirstActions) -> None:
        super().__init__()
        self._wanted = wanted
        self._ending = threading.Lock()
        self._is_over = False

    def cancel(self) -> bool:
        """Cancels the wait; returns False if it has ended otherwise."""
        if self._ends():
            super().cancel()
            # wakes threads in concurrent.futures.wait
            self.set_running_or_notify_cancel()
        return self.cancelled()

    def deliver(self, answer: Mapping[str, Any]) -> None:
        """Takes first actions, or the answer that holds them."""
        if self._ends():
            self.set_running_or_notify_cancel()
            self.set_result(self._wanted.take(answer))

    def fail(self, error: BaseException) -> None:
        """Takes the error in place of the answer."""
        if self._ends():
            self.set_running_or_notify_cancel()
            self.set_exception(error)

    def _ends(self) -> bool:
        with self._ending:
            is_over, self._is_over = self._is_over, True
            return not is_over


class SentRequest(Protocol):
    """A request under way."""

    @property
    def serialize_ms(self) -> float:
        """Milliseconds spent on packing it."""

    def cancel(self) -> None:
        """Tells the server to drop the work."""


@dataclass(frozen=True, eq=False)
class _Entry:
    future: InferenceFuture
    request: SentRequest
    convert: Callable[[dict[str, Any]], dict[str, Any]] | None
    jpeg_quality: int


class FutureTable:
    """The futures under way, by ticket. The caller that removes one ends it, so each ends once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets = itertools.count(1)
        self._entries: dict[int, _Entry] = {}

    def enter(
        self,
        request: SentRequest,
        convert: Callable[[dict[str, Any]], dict[str, Any]] | None,
        first: FirstActions | None = None,
        *,
        jpeg_quality: int = 0,
    ) -> tuple[int, InferenceFuture]:
        """Adds a request; returns its ticket and a future, whose result is `convert(answer)`."""
        with self._lock:
            ticket = next(self._tickets)
            future = InferenceFuture(functools.partial(self._withdraw, ticket), first)
            self._entries[ticket] = _Entry(future, request, convert, jpeg_quality)
        return ticket, future

    def begin(self, ticket: int, first: dict[str, Any]) -> None:
        """Gives a future its first actions; ignored if the future has ended."""
        with self._lock:
            entry = self._entries.get(ticket)
        if entry is not None:
            entry.future._deliver_first(first)

    def end(
        self,
        ticket: int,
        answer: dict[str, Any] | None,
        error: BaseException | None,
        round_trip: RoundTrip,
    ) -> None:
        """Gives a future its answer or its error.

        Args:
            ticket: the future's; ignored if the future has ended.
            answer: the server's answer, or None.
            error: the error if there is no answer.
            round_trip: the cost of the call without packing.
        """
        entry = self.take(ticket)
        if entry is None:
            return
        if answer is not None:
            entry.future._deliver_first(answer)
        if answer is not None and entry.convert is not None:
            try:
                answer = entry.convert(answer)
            except Exception as failure:
                answer, error = None, failure
        if answer is not None:
            serialize_ms = entry.request.serialize_ms
            stats = CallStats.of(serialize_ms, round_trip, entry.jpeg_quality)
            entry.future._deliver(answer, stats)
        elif error is not None:
            entry.future._fail(error)

    def take(self, ticket: int) -> _Entry | None:
        """Removes the entry of a ticket; None if another caller was first."""
        with self._lock:
            return self._entries.pop(ticket, None)

    def _withdraw(self, ticket: int) -> None:
        entry = self.take(ticket)
        if entry is not None:
            # wakes threads in concurrent.futures.wait
            entry.future.set_running_or_notify_cancel()
            entry.request.cancel()

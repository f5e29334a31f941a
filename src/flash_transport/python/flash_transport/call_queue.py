"""Submitted calls for a link that carries one at a time: two threads over a `WaitingLine`.

One thread carries the calls, the other ends those that time out before their turn.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from flash_transport.clock import MONOTONIC, Clock
from flash_transport.deadline import Deadline
from flash_transport.errors import FlashTransportError, Superseded
from flash_transport.first_actions import FirstActions
from flash_transport.futures import InferenceFuture
from flash_transport.stats import CallStats
from flash_transport.waiting_line import Progress, WaitingLine

__all__ = ["CallQueue", "QueuedCall", "TryAgain"]

Work = Callable[["QueuedCall"], tuple[dict[str, Any], CallStats]]


class TryAgain(Exception):  # noqa: N818 - never seen outside
    """The server has not begun the request: carry it again.

    Attributes:
        delay_s: how long to wait before.
        reason: what the server said, and what a call ends in whose time is over meanwhile.
    """

    def __init__(self, delay_s: float, reason: FlashTransportError) -> None:
        super().__init__(delay_s, reason)
        self.delay_s = delay_s
        self.reason = reason


class QueuedCall:
    """A submitted call.

    Args:
        work: carries the call, on the queue's thread: returns the answer, or raises `TryAgain` or
            the error that the call's future ends in.

    Attributes:
        refusal: why it is to be carried again; None if it has not been carried yet.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.future: InferenceFuture
        self.refusal: FlashTransportError | None = None
        self._is_given_up = threading.Event()
        self._error: FlashTransportError | None = None

    def check(self) -> None:
        """Raises if the call has been given up, which stops its work.

        Raises:
            FlashTransportError: what the future ends in.
        """
        if self._is_given_up.is_set():
            raise self._error or _superseded()

    def give_up(self, error: FlashTransportError | None = None) -> None:
        """Stops the work at its next `check`."""
        self._error = error
        self._is_given_up.set()


class CallQueue:
    """Carries calls one after the other.

    Args:
        name: of its threads.
        hang_up: called with a call that is given up while it is carried.
        late: makes the error of a call that times out before its first turn.
        closed: makes the error of the calls that `close` ends.
        clock: what deadlines and delays are measured by.
    """

    def __init__(
        self,
        name: str,
        *,
        hang_up: Callable[[QueuedCall], None],
        late: Callable[[Deadline], FlashTransportError],
        closed: Callable[[], FlashTransportError],
        clock: Clock = MONOTONIC,
    ) -> None:
        self._name = name
        self._hang_up = hang_up
        self._late = late
        self._closed_error = closed
        self._clock = clock
        self._changed = threading.Condition()
        self._line: WaitingLine[QueuedCall] = WaitingLine()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(
        self, session: str, deadline: Deadline, work: Work, first: FirstActions | None = None
    ) -> InferenceFuture:
        """Adds a call, whose future may want first actions.

        Raises:
            Disconnected: the queue is closed.
        """
        call = QueuedCall(work)
        call.future = InferenceFuture(functools.partial(self._withdraw, call), first)
        with self._changed:
            if self._closed:
                raise self._closed_error()
            older = self._line.submit(session, call, deadline)
            self._start_threads()
            self._changed.notify_all()
        if older is not None:
            older.future._fail(_superseded())
        return call.future

    def supersede(self, session: str) -> None:
        """Ends the call of a session that waits: a newer one goes another way."""
        with self._changed:
            older = self._line.give_way(session)
            self._changed.notify_all()
        if older is not None:
            older.future._fail(_superseded())

    def close(self) -> None:
        """Ends the calls that wait, and the one that is carried."""
        with self._changed:
            self._closed = True
            waiting = self._line.clear()
            if self._line.carried is not None:
                self._line.carried.give_up(self._closed_error())
            self._changed.notify_all()
        for call in waiting:
            call.future._fail(self._closed_error())

    def join(self, seconds: float) -> None:
        """Waits for the threads of a closed queue, unless called on one of them."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds)

    def _start_threads(self) -> None:
        if not self._threads:
            for work in (self._carry_all, self._watch_deadlines):
                thread = threading.Thread(target=work, name=self._name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def _withdraw(self, call: QueuedCall) -> None:
        with self._changed:
            progress = self._line.withdraw(call)
            if progress is Progress.IS_CARRIED:
                call.give_up()
                self._hang_up(call)
        if progress is Progress.WAITS:
            # wakes threads in concurrent.futures.wait
            call.future.set_running_or_notify_cancel()

    def _carry_all(self) -> None:
        while (call := self._next()) is not None:
            self._carry(call)
            # its arrays would otherwise live until the next call
            del call

    def _next(self) -> QueuedCall | None:
        with self._changed:
            while not self._closed:
                call = self._line.take(self._clock.now())
                if call is not None:
                    return call
                self._clock.wait(self._changed, self._line.next_turn())
        return None

    def _carry(self, call: QueuedCall) -> None:
        try:
            answer, stats = call.work(call)
        except TryAgain as again:
            call.refusal = again.reason
            self._carry_again(call, again.delay_s)
        except Exception as error:
            self._finish(call)
            call.future._fail(error)
        else:
            self._finish(call)
            call.future._deliver(answer, stats)

    def _carry_again(self, call: QueuedCall, delay_s: float) -> None:
        error: FlashTransportError | None = None
        with self._changed:
            try:
                call.check()
            except FlashTransportError as given_up:
                self._line.finish(call)
                error = given_up
            else:
                if not self._line.put_back(call, self._clock.now() + delay_s):
                    error = _superseded()
            self._changed.notify_all()
        if error is not None:
            call.future._fail(error)

    def _finish(self, call: QueuedCall) -> None:
        with self._changed:
            self._line.finish(call)

    def _watch_deadlines(self) -> None:
        while (late := self._next_late()) is not None:
            for call, deadline in late:
                call.future._fail(call.refusal or self._late(deadline))

    def _next_late(self) -> list[tuple[QueuedCall, Deadline]] | None:
        with self._changed:
            while not self._closed:
                late = self._line.expire(self._clock.now())
                if late:
                    return late
                self._clock.wait(self._changed, self._line.next_expiry())
        return None


def _superseded() -> Superseded:
    return Superseded(
        "a newer observation of the session took this one's place before the server had all of it"
    )

"""Submitted requests for a link that carries one at a time.

One thread carries them, one keeps their time. At most one request of a session waits: a newer one
takes its place, and its turn, so that no session starves.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from flash_transport.deadline import Deadline
from flash_transport.errors import FlashTransportError, Superseded
from flash_transport.futures import InferenceFuture
from flash_transport.stats import CallStats

__all__ = ["Courier", "Errand"]

Work = Callable[["Errand"], tuple[dict[str, Any], CallStats]]


class Errand:
    """A submitted request.

    Args:
        session: whose it is.
        deadline: when the answer is of no use any more.
        work: carries it, on the courier's thread.
    """

    def __init__(self, session: str, deadline: Deadline, work: Work) -> None:
        self.session = session
        self.deadline = deadline
        self.work = work
        self.future: InferenceFuture
        self._disturbed = threading.Event()
        self._outcome: FlashTransportError | None = None

    def check(self) -> None:
        """Stops the work where nobody wants it any more.

        Raises:
            FlashTransportError: what the future ends in.
        """
        if self._disturbed.is_set():
            raise self._outcome or Superseded(_GAVE_WAY)

    def pause(self, seconds: float) -> None:
        """Waits, unless the work is to stop; raises what `check` raises."""
        self._disturbed.wait(seconds)
        self.check()

    def disturb(self, outcome: FlashTransportError | None = None) -> None:
        """Has the work stop at its next `check` or `pause`."""
        self._outcome = outcome
        self._disturbed.set()


class Courier:
    """Carries errands one after the other.

    Args:
        name: of its threads.
        hang_up: called with an errand that is under way and that nobody wants any more.
        late: makes the error of an errand whose time is over before its turn.
        closed: makes the error of those that the end finds waiting.
    """

    def __init__(
        self,
        name: str,
        *,
        hang_up: Callable[[Errand], None],
        late: Callable[[Deadline], FlashTransportError],
        closed: Callable[[], FlashTransportError],
    ) -> None:
        self._name = name
        self._hang_up = hang_up
        self._late = late
        self._closed_error = closed
        self._changed = threading.Condition()
        # a dict keeps a key's place when its value is replaced: that is the session's turn
        self._waiting: dict[str, Errand] = {}
        self._carried: Errand | None = None
        self._pausing = False
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, session: str, deadline: Deadline, work: Work) -> InferenceFuture:
        """Lets a request wait for its turn.

        Raises:
            Disconnected: the courier is closed.
        """
        errand = Errand(session, deadline, work)
        errand.future = InferenceFuture(functools.partial(self._withdraw, errand))
        with self._changed:
            if self._closed:
                raise self._closed_error()
            older = self._waiting.get(session)
            self._waiting[session] = errand
            carried = self._carried
            if self._pausing and carried is not None and carried.session == session:
                carried.disturb()
            self._start_threads()
            self._changed.notify_all()
        if older is not None:
            older.future._fail(Superseded(_GAVE_WAY))
        return errand.future

    def pause(self, errand: Errand, seconds: float) -> None:
        """Lets an errand wait to be carried again; a newer one of its session ends it.

        Raises:
            FlashTransportError: what its future ends in.
        """
        with self._changed:
            self._pausing = True
            if errand.session in self._waiting:
                errand.disturb()
        try:
            errand.pause(seconds)
        finally:
            with self._changed:
                self._pausing = False

    def close(self) -> None:
        """Ends what waits and what is under way."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting.values())
            self._waiting.clear()
            if self._carried is not None:
                self._carried.disturb(self._closed_error())
            self._changed.notify_all()
        for errand in waiting:
            errand.future._fail(self._closed_error())

    def join(self, seconds: float) -> None:
        """Waits for the threads of a closed courier, unless called on one of them."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds)

    def _start_threads(self) -> None:
        if not self._threads:
            for work in (self._carry_all, self._keep_time):
                thread = threading.Thread(target=work, name=self._name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def _withdraw(self, errand: Errand) -> None:
        with self._changed:
            is_waiting = self._waiting.get(errand.session) is errand
            if is_waiting:
                del self._waiting[errand.session]
            is_carried = self._carried is errand
            if is_carried:
                errand.disturb()
                self._hang_up(errand)
        if is_waiting:
            # tells those who wait in concurrent.futures.wait
            errand.future.set_running_or_notify_cancel()

    def _carry_all(self) -> None:
        while (errand := self._next()) is not None:
            answer, failure = None, None
            try:
                answer = errand.work(errand)
            except Exception as error:
                failure = error
            with self._changed:
                self._carried = None
            if answer is not None:
                errand.future._deliver(*answer)
            elif failure is not None:
                errand.future._fail(failure)
            # their arrays would otherwise live until the next errand
            del errand, answer, failure

    def _next(self) -> Errand | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            session = next(iter(self._waiting))
            self._carried = self._waiting.pop(session)
            return self._carried

    def _keep_time(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                late = [e for e in self._waiting.values() if e.deadline.left(forever=1) <= 0]
                for errand in late:
                    del self._waiting[errand.session]
                if not late:
                    ends = [e.deadline.left() for e in self._waiting.values()]
                    self._changed.wait(min((end for end in ends if end is not None), default=None))
            for errand in late:
                errand.future._fail(self._late(errand.deadline))


_GAVE_WAY = (
    "a newer observation of the session took this one's place before the server had all of it"
)

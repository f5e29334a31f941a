"""A slot: one handler (a policy or a planner) behind every transport.

The scheduler chooses what is next, the runner runs it, `respond` delivers the answer. A slot
exists before its runner does: until `open` it refuses requests with the reason that `/healthz`
gives.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flash_transport import CodecError
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.slot import events
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure
from openpi_flash_server.slot.batch_request import parse_works
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.failures import bad_request, internal
from openpi_flash_server.slot.gate import Admission, Gate
from openpi_flash_server.slot.open_request import OpenRequest
from openpi_flash_server.slot.runner import Ran, Runner
from openpi_flash_server.slot.scheduler import Dropped, DropReason, Piece, Scheduler
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.sessions import Sessions
from openpi_flash_server.slot.ticket import Ticket
from openpi_flash_server.slot.work import Work

log = EventLogger(__name__)

MAX_WAITING_SESSIONS = 64
"""A waiting request holds some megabytes; with more waiting robots the server is too slow."""

Listener = Callable[[events.Event], None]


class Slot:
    """The requests of one handler, and its runner.

    Args:
        name: `action` or `planner`.
        capacity: how many sessions may wait at once.
        max_wait: how long a request waits for others to share its batch, s.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int = MAX_WAITING_SESSIONS,
        max_wait: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.clock = clock
        self._scheduler: Scheduler[Ticket] = Scheduler(capacity=capacity, max_wait=max_wait)
        self._sessions = Sessions()
        self._open: dict[Ticket, OpenRequest] = {}
        self._runner: Runner | None = None
        self._gate: Gate | None = None
        self._under_way = 0
        self._running = 0
        self._sequence = 0
        self._not_ready_because = "starting"
        self._trouble = ""
        self._failing = ""
        self._closing = False
        self._closed = False
        # guards everything above; held for moments, never while a handler runs
        self._lock = threading.RLock()
        self._drained = threading.Condition(self._lock)
        self._earlier = threading.Condition(self._lock)
        self._wakeup: float | None = None
        self._numbers = itertools.count(1)
        self._listeners: list[Listener] = []
        self._telling = threading.Lock()
        self._wakeups = threading.Thread(
            target=self._keep_time, name=f"slot-{name}-wakeups", daemon=True
        )

    def subscribe(self, listener: Listener) -> None:
        """Tells `listener` every event from now on, one at a time; it must not call the slot."""
        with self._telling:
            self._listeners.append(listener)

    @property
    def not_ready_because(self) -> str | None:
        """Why the slot takes no requests; None when it does."""
        with self._lock:
            return self._not_ready_because or None

    @property
    def unhealthy_because(self) -> str | None:
        """The problem that `/healthz` reports; None if there is none."""
        with self._lock:
            return self._not_ready_because or self._trouble or self._failing or None

    @property
    def trouble_because(self) -> str | None:
        """A problem that only a restart cures; None if there is none."""
        with self._lock:
            return self._trouble or None

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        with self._lock:
            return len(self._scheduler)

    @property
    def max_wait(self) -> float:
        """How long a request waits for others to share its batch, s."""
        with self._lock:
            return self._scheduler.max_wait

    @max_wait.setter
    def max_wait(self, seconds: float) -> None:
        with self._lock:
            self._scheduler.max_wait = seconds
        self._advance()

    def has_trouble(self, reason: str) -> None:
        """Reports a problem that only a restart cures to `/healthz`; requests are still taken."""
        with self._lock:
            self._trouble = reason

    def is_failing(self, reason: str) -> None:
        """Reports to `/healthz` that requests fail one after the other; empty: they do no more."""
        with self._lock:
            self._failing = reason

    def warming_up(self, reason: str) -> None:
        """Sets the reason why the slot is not open yet; an open one stays open."""
        with self._lock:
            if not self._closing and self._runner is None:
                self._not_ready_because = reason

    def open(self, runner: Runner, gate: Gate | None = None) -> None:
        """Takes requests from now on.

        Args:
            runner: its handler is loaded and warm.
            gate: may hold requests back; None holds none.
        """
        with self._lock:
            if self._closing or self._runner is not None:
                raise RuntimeError(f"slot {self.name} cannot be opened twice")
            self._runner = runner
            self._guard_by(gate)
            self._not_ready_because = ""
        self._wakeups.start()

    def replace(self, runner: Runner, gate: Gate | None = None) -> Runner:
        """Starts every further batch on `runner`; returns the former one, which may still run.

        Requests that the former gate holds are released.
        """
        with self._lock:
            former = self._runner
            if self._closing or former is None:
                raise RuntimeError(f"slot {self.name} is not open")
            waiting = [ticket.session for ticket in self._scheduler.waiting]
            self._forget(waiting)
            for session in waiting:
                self._scheduler.release(session)
            self._runner = runner
            self._guard_by(gate)
            self._under_way = 0
        self._advance()
        return former

    def release(self, session: Session) -> None:
        """Lets the session's waiting request run, which the gate held back."""
        with self._lock:
            self._scheduler.release(session)
        self._advance()

    def receive(
        self,
        decode: Callable[[], Any],
        *,
        client: Client,
        session: str,
        respond: Callable[[Answer], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Takes a message whose last byte has just come; `respond` gets one answer, now or later.

        Args:
            decode: decodes the message; encoded images in it stay as they are.
            client: who sent it.
            session: the transport's name for the client, used if the message names no session.
            respond: takes the answer, on any thread; must not block.
            is_cancelled: whether the client no longer waits for the answer.
        """
        received_at = self.clock()
        try:
            works, is_batch = parse_works(decode(), session=session)
        except Exception as error:
            expected = isinstance(error, CodecError | ObservationError)
            failure = bad_request(error) if expected else internal(error)
            number = next(self._numbers)
            self._tell(events.Received(received_at, number, session, (), client))
            self._end(number, session, failure, respond)
            return
        deadline_ms = works[0].deadline_ms
        self.submit(
            Ticket(
                works=works,
                is_batch=is_batch,
                client=client,
                received_at=received_at,
                decode_ms=(self.clock() - received_at) * 1000,
                deadline=None if deadline_ms is None else received_at + deadline_ms / 1000,
                respond=respond,
                is_cancelled=is_cancelled,
            )
        )

    def submit(self, ticket: Ticket) -> None:
        """Queues a request, or refuses it."""
        number = next(self._numbers)
        self._tell(
            events.Received(ticket.received_at, number, ticket.session, ticket.works, ticket.client)
        )
        with self._lock:
            refusal = self._not_ready_because
            dropped: list[Dropped[Ticket]] = []
            ended: list[Session] = []
            admission = Admission()
            if not refusal:
                now = self.clock()
                # a client that has left already begins no session
                if not ticket.is_cancelled():
                    ended = self._sessions.used(ticket.session, ticket.client)
                    self._forget(ended)
                    if self._gate is not None:
                        admission = self._gate.admit(ticket, now)
                self._open[ticket] = OpenRequest(ticket, number)
                held_until = -math.inf if admission.held_until is None else admission.held_until
                dropped = self._scheduler.submit(ticket, now, held_until=held_until)
        if refusal:
            failure = Failure(ErrorCode.NOT_READY, refusal)
            self._end(number, ticket.session, failure, ticket.respond)
        self._drop(dropped)
        self._end_sessions(ended)
        if admission.begin is not None:
            admission.begin()
        self._advance()

    def reset(self, session: Session) -> None:
        """Starts `session` anew: drops its waiting request, and its state before its next one."""
        with self._lock:
            waiting = self._scheduler.end_session(session)
            self._forget([session])
            if self._runner is not None:
                self._runner.reset(session)
        if waiting is not None:
            self._drop([Dropped(waiting, DropReason.SUPERSEDED)])

    def client_left(self, client: Client) -> None:
        """Ends the sessions that no other client uses."""
        with self._lock:
            ended = self._sessions.left(client)
            self._forget(ended)
        self._end_sessions(ended)

    def stop_accepting(self) -> None:
        """Refuses new requests; waiting ones are still run."""
        with self._lock:
            self._closing = True
            self._not_ready_because = "shutting down"

    def close(self, *, grace: float) -> bool:
        """Refuses new requests, and runs waiting ones as long as there is time.

        Args:
            grace: how long that may take, s; requests that still wait then are refused.

        Returns:
            Whether every waiting request was run in time.
        """
        end = time.monotonic() + grace
        self.stop_accepting()
        with self._lock:
            runner = self._runner
            finished = runner is None or self._drained.wait_for(
                lambda: not self._running and not len(self._scheduler), grace
            )
            waiting = [self._open.pop(ticket) for ticket in self._scheduler.clear()]
            self._closed = True
            self._earlier.notify_all()
        for request in waiting:
            failure = Failure(ErrorCode.NOT_READY, "shutting down")
            self._end(request.number, request.ticket.session, failure, request.ticket.respond)
        if runner is not None:
            finished &= runner.close(max(0.0, end - time.monotonic()))
        return finished

    def _advance(self) -> None:
        """Starts what can be started, and drops what nobody waits for."""
        dropped: list[Dropped[Ticket]] = []
        with self._lock:
            while True:
                now, runner = self.clock(), self._runner
                room = 0
                if runner is not None and self._under_way < runner.places:
                    room = runner.max_batch
                batch = self._scheduler.next_batch(now, room, self._can_share)
                dropped += batch.dropped
                if runner is None or not batch.pieces:
                    break
                self._start(runner, batch.pieces, now)
            wakeup = self._scheduler.next_wakeup()
            if wakeup is not None and (self._wakeup is None or wakeup < self._wakeup):
                self._earlier.notify_all()
            self._wakeup = wakeup
            if not self._running and not len(self._scheduler):
                self._drained.notify_all()
        self._drop(dropped)

    def _start(self, runner: Runner, pieces: Sequence[Piece[Ticket]], now: float) -> None:
        works: list[Work] = []
        numbers = []
        for piece in pieces:
            ticket = piece.request
            request = self._open[ticket]
            if request.sequence == 0:
                self._sequence += 1
                request.sequence = self._sequence
            numbers.append(request.number)
            chosen = ticket.works[piece.first : piece.first + piece.count]
            works.extend(ticket.at_start(work, now) for work in chosen)
        self._under_way += 1
        self._running += 1
        self._tell(events.Started(now, tuple(numbers), len(works)))
        runner.start(works, functools.partial(self._ran, runner, pieces))

    def _ran(self, runner: Runner, pieces: Sequence[Piece[Ticket]], ran: Ran) -> None:
        complete = []
        with self._lock:
            first = 0
            for piece in pieces:
                request = self._open.get(piece.request)
                # a large request may have been dropped between its pieces
                if request is not None:
                    request.take(piece, ran, first)
                    if request.is_complete:
                        complete.append(self._open.pop(piece.request))
                first += piece.count
        # answers first: a client may send its next observation in time for the next batch
        for request in complete:
            ticket = request.ticket
            self._end(
                request.number, ticket.session, request.answer(), ticket.respond, request.timing()
            )
        with self._lock:
            self._running -= 1
            if runner is self._runner:
                self._under_way -= 1
            self._scheduler.finished(pieces, self.clock())
        self._advance()

    def _can_share(self, one: Ticket, other: Ticket) -> bool:
        assert self._runner is not None
        return self._runner.batch_key(one.work) == self._runner.batch_key(other.work)

    def _guard_by(self, gate: Gate | None) -> None:
        self._gate = gate
        if gate is not None:
            gate.attach(self.release)

    def _forget(self, sessions: Iterable[Session]) -> None:
        if self._gate is not None:
            for session in sessions:
                self._gate.forget(session)

    def _end_sessions(self, ended: Iterable[Session]) -> None:
        for session in ended:
            with self._lock:
                waiting = self._scheduler.end_session(session)
            if waiting is not None:
                self._drop([Dropped(waiting, DropReason.CANCELLED)])
            self._tell(events.SessionEnded(self.clock(), session))

    def _drop(self, dropped: Iterable[Dropped[Ticket]]) -> None:
        for drop in dropped:
            with self._lock:
                request = self._open.pop(drop.request)
            code, message = _DROPPED[drop.reason]
            failure = Failure(code, message)
            ticket = drop.request
            self._tell(
                events.Dropped(self.clock(), request.number, ticket.session, drop.reason, failure)
            )
            self._respond(request.number, ticket.session, failure, ticket.respond)

    def _end(
        self,
        number: int,
        session: Session,
        answer: Answer,
        respond: Callable[[Answer], None],
        timing: events.Timing | None = None,
    ) -> None:
        self._tell(events.Answered(self.clock(), number, session, answer, timing))
        self._respond(number, session, answer, respond)

    def _respond(
        self, number: int, session: Session, answer: Answer, respond: Callable[[Answer], None]
    ) -> None:
        try:
            respond(answer)
        # a fault of one request's transport must not end the thread
        except Exception as error:
            self._tell(events.AnswerLost(self.clock(), number, session, error))

    def _tell(self, event: events.Event) -> None:
        with self._telling:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception as error:
                    log.error("listener failed", exception=error, slot=self.name)

    def _keep_time(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                left = None if self._wakeup is None else self._wakeup - self.clock()
                if left is None or left > 0:
                    self._earlier.wait(left)
            self._advance()


_DROPPED = {
    DropReason.SUPERSEDED: (
        ErrorCode.SUPERSEDED,
        "a newer observation of this session took this one's place",
    ),
    DropReason.DEADLINE_EXCEEDED: (
        ErrorCode.DEADLINE_EXCEEDED,
        "waited longer than deadline_ms",
    ),
    DropReason.CANCELLED: (ErrorCode.SUPERSEDED, "the client does not want this answer any more"),
    DropReason.FULL: (
        ErrorCode.NOT_READY,
        "too many sessions are waiting already",
    ),
}

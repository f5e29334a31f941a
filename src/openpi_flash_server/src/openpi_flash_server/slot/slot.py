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

from openpi_flash_server.config.request_limits import RequestLimits
from openpi_flash_server.slot import events
from openpi_flash_server.slot.alarm import Alarm
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.failures import SESSION_HELD
from openpi_flash_server.slot.gate import Admission, Gate
from openpi_flash_server.slot.health import Health
from openpi_flash_server.slot.intake import Intake
from openpi_flash_server.slot.life import Life, Stage
from openpi_flash_server.slot.open_request import OpenRequest
from openpi_flash_server.slot.runner import Ran, ReplicatedRunner, Runner
from openpi_flash_server.slot.running import Run, Running
from openpi_flash_server.slot.scheduler import Dropped, DropReason, Piece, Scheduler
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.sessions import Sessions
from openpi_flash_server.slot.ticket import Ticket
from openpi_flash_server.slot.voice import Listener, Voice
from openpi_flash_server.slot.work import Work

MAX_WAITING_SESSIONS = 64
"""A waiting request holds some megabytes; with more waiting robots the server is too slow."""

_DEFAULT_LIMITS = RequestLimits()

_LOOK_S = 1.0
"""How often to look whether the clients of waiting requests are still there: one that leaves wakes
nobody, and its request may have no deadline."""


class Slot:
    """The requests of one handler, and its runner.

    Args:
        name: `action` or `planner`.
        capacity: how many sessions may wait at once.
        max_wait: how long a request waits for others to share its batch, s.
        give_up_after: how long a batch may run before its requests fail, s; None for ever.
        limits: of each observation.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int = MAX_WAITING_SESSIONS,
        max_wait: float = 0.0,
        give_up_after: float | None = None,
        limits: RequestLimits = _DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.clock = clock
        self._scheduler: Scheduler[Ticket] = Scheduler(capacity=capacity, max_wait=max_wait)
        self._sessions = Sessions()
        self._open: dict[Ticket, OpenRequest] = {}
        self._runner: Runner | None = None
        # the same, if it is one
        self._replicated: ReplicatedRunner | None = None
        self._gate: Gate | None = None
        self._runs = Running(give_up_after)
        # whether images of waiting requests may be decoded before it is their turn
        self._decodes_ahead = False
        self._sequence = 0
        self._life = Life()
        self._health = Health()
        self._failing = ""
        # guards everything above; held for moments, never while a handler runs
        self._lock = threading.RLock()
        self._drained = threading.Condition(self._lock)
        self._alarm = Alarm(
            f"slot-{name}-wakeups",
            self._lock,
            clock=clock,
            act=self._advance,
            died=self.has_trouble,
        )
        self._numbers = itertools.count(1)
        self._intake = Intake(clock, limits)
        self._voice = Voice(name, clock)

    def subscribe(self, listener: Listener) -> None:
        """Tells `listener` every event from now on, one at a time; it must not call the slot."""
        self._voice.subscribe(listener)

    @property
    def stage(self) -> Stage:
        """Where it stands in its life."""
        with self._lock:
            return self._life.stage

    @property
    def not_ready_because(self) -> str | None:
        """Why the slot takes no requests; None when it does."""
        with self._lock:
            return self._refusal

    @property
    def unhealthy_because(self) -> str | None:
        """The problem that `/healthz` reports; None if there is none."""
        with self._lock:
            return (
                self._refusal
                or self._life.trouble
                or self._failing
                or self._health.unhealthy_because(self.clock())
            )

    @property
    def trouble_because(self) -> str | None:
        """A problem that only a restart cures; None if there is none."""
        with self._lock:
            return self._life.trouble

    @property
    def is_open(self) -> bool:
        """Whether a runner answers its requests, now or when it no longer hangs."""
        with self._lock:
            return self._runner is not None

    @property
    def hangs(self) -> bool:
        """Whether the model holds a request that was given up."""
        with self._lock:
            return self._life.hangs

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
            self._life.fails(reason)

    def is_failing(self, reason: str) -> None:
        """Reports to `/healthz` that requests fail one after the other; empty: they do no more."""
        with self._lock:
            self._failing = reason

    def lacks_model(self, reason: str) -> None:
        """Refuses requests, and reports to `/healthz` that only a reload or a restart helps."""
        with self._lock:
            self._life.lacks_model(reason)

    def prepares(self, stage: Stage, reason: str) -> None:
        """Says what the slot is busy with before it opens; an open one stays open."""
        with self._lock:
            self._life.prepares(stage, reason)

    def open(self, runner: Runner, gate: Gate | None = None) -> None:
        """Takes requests from now on.

        Args:
            runner: its handler is loaded and warm.
            gate: may hold requests back; None holds none.
        """
        with self._lock:
            if self._life.stage is Stage.DRAINING or self._runner is not None:
                raise RuntimeError(f"slot {self.name} cannot be opened twice")
            self._run_on(runner)
            self._guard_by(gate)
            self._health.replaced()
            self._failing = ""
            self._life.opens()
            self._alarm.start()

    def replace(self, runner: Runner, gate: Gate | None = None) -> Runner:
        """Starts every further batch on `runner`; returns the former one, which may still run.

        Requests that the former gate holds are released.
        """
        with self._lock:
            former = self._runner
            if self._life.stage is Stage.DRAINING or former is None:
                raise RuntimeError(f"slot {self.name} is not open")
            waiting = [ticket.session for ticket in self._scheduler.waiting]
            self._forget(waiting)
            for session in waiting:
                self._scheduler.release(session)
            self._run_on(runner)
            self._guard_by(gate)
            self._health.replaced()
            self._failing = ""
            self._life.opens()
        self._advance()
        return former

    def unload(self, reason: str) -> Runner:
        """Refuses requests with `reason` until the slot is opened again.

        Returns:
            The runner, which may still run what was started.
        """
        with self._lock:
            runner = self._runner
            if self._life.stage is Stage.DRAINING or runner is None:
                raise RuntimeError(f"slot {self.name} is not open")
            self._run_on(None)
            self._life.unloads(reason)
            waiting = self._take_waiting()
            self._gate = None
        self._refuse(waiting, ErrorCode.NOT_READY, reason)
        return runner

    def choose_seeds(self, seeds: Callable[[], int] | None) -> None:
        """Gives requests without seed and noise a seed, so that they can be repeated; or no more.

        Args:
            seeds: a new seed for each; may be called from any thread.
        """
        self._intake.seeds = seeds

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
        respond_first: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Takes a message whose last byte has just come; `respond` gets one answer, now or later.

        Args:
            decode: decodes the message; encoded images in it stay as they are.
            client: who sent it.
            session: the transport's name for the client, used if the message names no session.
            respond: takes the answer, on any thread; must not block.
            is_cancelled: whether the client no longer waits for the answer.
            respond_first: takes first actions before the answer, once at most, as `respond` does;
                None where they cannot be sent ahead.
        """
        received_at = self.clock()
        ticket = self._intake.ticket(
            decode,
            received_at=received_at,
            client=client,
            session=session,
            respond=respond,
            is_cancelled=is_cancelled,
            respond_first=respond_first,
        )
        if isinstance(ticket, Ticket):
            self.submit(ticket)
            return
        number = next(self._numbers)
        self._voice.tell(events.Received(received_at, number, session, (), client))
        self._voice.answer(number, session, ticket, respond)

    def submit(self, ticket: Ticket) -> None:
        """Queues a request, or refuses it."""
        number = next(self._numbers)
        self._voice.tell(
            events.Received(ticket.received_at, number, ticket.session, ticket.works, ticket.client)
        )
        with self._lock:
            failure = self._failure_of_new(ticket)
            dropped: list[Dropped[Ticket]] = []
            ended: list[Session] = []
            admission = Admission()
            if failure is None:
                now = self.clock()
                # a client that has left already begins no session
                if not ticket.is_cancelled():
                    ended = self._sessions.used(
                        ticket.session, ticket.client, ticket.session_token, now
                    )
                    self._forget(ended)
                    if self._gate is not None:
                        admission = self._gate.admit(ticket, now)
                self._open[ticket] = OpenRequest(ticket, number)
                held_until = -math.inf if admission.held_until is None else admission.held_until
                dropped = self._scheduler.submit(ticket, now, held_until=held_until)
        if failure is not None:
            self._voice.answer(number, ticket.session, failure, ticket.respond)
        self._drop(dropped)
        self._end_sessions(ended)
        if admission.begin is not None:
            admission.begin()
        self._advance(newcomer=ticket)

    def reset(self, session: Session, *, by: Client | None = None) -> Failure | None:
        """Starts `session` anew: drops its waiting request, and its state before its next one.

        Args:
            session: which.
            by: the client that asks for it; None for the server itself.

        Returns:
            Why the client may not; None if it is done.
        """
        with self._lock:
            if by is not None and not self._sessions.may_reset(session, by, self.clock()):
                return SESSION_HELD
            waiting = self._scheduler.end_session(session)
            self._forget([session])
            if self._runner is not None:
                self._runner.reset(session)
        if waiting is not None:
            self._drop([Dropped(waiting, DropReason.SUPERSEDED)])
        return None

    def client_left(self, client: Client) -> None:
        """Ends the sessions that no other client uses."""
        with self._lock:
            ended = self._sessions.left(client)
            self._forget(ended)
        self._end_sessions(ended)

    def stop_accepting(self) -> None:
        """Refuses new requests; waiting ones are still run."""
        with self._lock:
            self._life.drains()

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
                lambda: not len(self._runs) and not len(self._scheduler), grace
            )
            waiting = self._take_waiting()
            hangs = self._life.hangs
            self._alarm.close()
        self._refuse(waiting, ErrorCode.NOT_READY, "shutting down")
        if runner is not None:
            finished &= runner.close(0.0 if hangs else max(0.0, end - time.monotonic()))
        return finished

    @property
    def _refusal(self) -> str | None:
        """Why requests are refused; None if they are taken."""
        of_replicas = None if self._replicated is None else self._replicated.refusal
        return self._life.refusal or of_replicas

    def _failure_of_new(self, ticket: Ticket) -> Failure | None:
        """The answer to a new request that is not queued; None if it is."""
        if self._refusal is not None:
            return Failure(ErrorCode.NOT_READY, self._refusal)
        session, client, token = ticket.session, ticket.client, ticket.session_token
        if not self._sessions.may_use(session, client, token, self.clock()):
            return SESSION_HELD
        return None

    def _run_on(self, runner: Runner | None) -> None:
        self._runner, self._replicated = runner, None
        if runner is not None and isinstance(runner, ReplicatedRunner):
            self._replicated = runner
            runner.attach(self._advance)

    def _take_waiting(self) -> list[OpenRequest]:
        # of a request that was given up, a part may still wait
        waiting = self._scheduler.clear()
        self._forget(ticket.session for ticket in waiting)
        return [self._open.pop(ticket) for ticket in waiting if ticket in self._open]

    def _refuse(self, requests: Iterable[OpenRequest], code: ErrorCode, reason: str) -> None:
        for request in requests:
            ticket = request.ticket
            # what the model has seen a part of must not be called not begun
            failure = Failure(ErrorCode.INTERNAL if request.sequence else code, reason)
            self._voice.answer(request.number, ticket.session, failure, ticket.respond)

    def _advance(self, newcomer: Ticket | None = None) -> None:
        """Starts what can be started, and ends what nobody waits for or what takes too long.

        Args:
            newcomer: the request that was queued since the last call, if nothing else has changed.
        """
        dropped: list[Dropped[Ticket]] = []
        with self._lock:
            if newcomer is not None and self._only_waits(newcomer):
                self._set_wakeup()
                return
            late = self._runs.give_up(self.clock())
            reason = f"the model has not answered for {self._runs.limit:g} s" if late else ""
            given_up = self._give_up(late, reason)
            hung = self._take_waiting() if late and self._life.hangs else []
            absent = None if self._replicated is None else self._replicated.refusal
            unserved = [] if absent is None else self._take_waiting()
            now, runner = self.clock(), self._runner
            can_start = None if self._replicated is None else self._can_start
            while len(self._scheduler):
                places = 0 if runner is None else self._free_places(runner)
                room = runner.max_batch if runner is not None and places else 0
                batch = self._scheduler.next_batch(
                    now, room, self._can_share, places=places, can_start=can_start
                )
                dropped += batch.dropped
                if runner is None or not batch.pieces:
                    break
                self._start(runner, batch.pieces, now)
                if places == 1:
                    break
                now = self.clock()
            if runner is not None:
                runner.expect(self._upcoming(runner, now))
            self._set_wakeup()
            if not len(self._runs) and not len(self._scheduler):
                self._drained.notify_all()
        self._drop(dropped)
        if late:
            numbers = tuple(request.number for request in given_up)
            self._voice.tell(events.GivenUp(now, numbers, reason))
            self._refuse(given_up, ErrorCode.INTERNAL, reason)
            self._refuse(hung, ErrorCode.NOT_READY, reason)
        if absent is not None:
            self._refuse(unserved, ErrorCode.NOT_READY, absent)

    def _only_waits(self, newcomer: Ticket) -> bool:
        """Whether a request that was queued changes nothing but when to look again.

        Where many clients wait, choosing among them for each that comes would cost more than
        answering them. Those that nobody waits for any more are found when a place is free, or
        after `_LOOK_S`.
        """
        runner = self._runner
        return (
            runner is not None
            and self._replicated is None
            and not self._free_places(runner)
            and not newcomer.has_encoded_images
            and not self._decodes_ahead
            and self.clock() < self._runs.next_give_up()
        )

    def _upcoming(self, runner: Runner, now: float) -> list[Work]:
        """The works of the next batch, if there are encoded images to decode ahead."""
        self._decodes_ahead = any(ticket.has_encoded_images for ticket in self._scheduler.waiting)
        if not self._decodes_ahead:
            return []
        return [
            work
            for piece in self._scheduler.upcoming(now, runner.max_batch, self._can_share)
            for work in piece.request.works[piece.first : piece.first + piece.count]
        ]

    def _free_places(self, runner: Runner) -> int:
        return 0 if self._life.hangs else max(0, runner.places - self._runs.on(runner))

    def _give_up(self, late: Iterable[Run], reason: str) -> list[OpenRequest]:
        """Takes no requests until the runner comes back or is replaced."""
        requests = []
        for run in late:
            if run.runner is self._runner:
                self._life.hangs_because(reason)
            for piece in run.pieces:
                request = self._open.pop(piece.request, None)
                if request is not None:
                    requests.append(request)
            self._scheduler.finished(run.pieces, self.clock())
        return requests

    def _set_wakeup(self) -> None:
        at = self._runs.next_give_up()
        if len(self._scheduler):
            wakeup = self._scheduler.next_wakeup()
            at = min(at, self.clock() + _LOOK_S, math.inf if wakeup is None else wakeup)
        self._alarm.set(at)

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
        run = self._runs.start(runner, pieces, now)
        self._voice.tell(events.Started(now, tuple(numbers), len(works)))
        first = functools.partial(self._has_first, run)
        runner.start(works, functools.partial(self._ran, run), first)

    def _has_first(self, run: Run, index: int, first: dict[str, Any]) -> None:
        """Hands over the first actions of a work, by its index in the batch that runs."""
        with self._lock:
            # of a batch that was given up, its clients have their answer
            ticket = _ticket_at(run.pieces, index) if run in self._runs else None
            request = None if ticket is None else self._open.get(ticket)
            if request is None or not request.takes_first(self.clock()):
                return
            number, ticket = request.number, request.ticket
        if ticket.respond_first is not None and not ticket.is_cancelled():
            self._voice.begin(number, ticket.session, first, ticket.respond_first)

    def _ran(self, run: Run, ran: Ran) -> None:
        complete = []
        pieces = run.pieces
        with self._lock:
            if run not in self._runs:
                self._came_back(run.runner)
                return
            run.give_up_at = math.inf
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
            self._voice.answer(
                request.number, ticket.session, request.answer(), ticket.respond, request.timing()
            )
        with self._lock:
            self._runs.end(run)
            self._note_health(run.runner, ran)
            self._scheduler.finished(pieces, self.clock())
        self._advance()

    def _came_back(self, runner: Runner) -> None:
        """A batch that was given up has ended all the same."""
        if runner is self._runner and self._life.hangs:
            self._life.comes_back()
            self._voice.tell(events.CameBack(self.clock()))

    def _note_health(self, runner: Runner, ran: Ran) -> None:
        if runner is not self._runner:
            return
        for answer in ran.answers:
            if not isinstance(answer, Failure):
                self._health.succeeded()
            elif answer.code is ErrorCode.INTERNAL:
                self._health.failed(self.clock(), answer.message)

    def _can_share(self, one: Ticket, other: Ticket) -> bool:
        assert self._runner is not None
        return self._runner.batch_key(one.work) == self._runner.batch_key(other.work)

    def _can_start(self, ticket: Ticket) -> bool:
        assert self._replicated is not None
        return self._replicated.can_start(ticket.session)

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
                if self._replicated is not None:
                    self._replicated.session_ended(session)
            if waiting is not None:
                self._drop([Dropped(waiting, DropReason.CANCELLED)])
            self._voice.tell(events.SessionEnded(self.clock(), session))

    def _drop(self, dropped: Iterable[Dropped[Ticket]]) -> None:
        for drop in dropped:
            with self._lock:
                request = self._open.pop(drop.request)
            self._voice.drop(request.number, drop)


def _ticket_at(pieces: Sequence[Piece[Ticket]], index: int) -> Ticket | None:
    """The request of an observation, by its index in a batch."""
    for piece in pieces:
        if index < piece.count:
            return piece.request
        index -= piece.count
    return None

"""A slot: one handler (a policy or a planner) behind every transport, and the thread that runs it.

The scheduler chooses a request, the thread runs it, `respond` delivers the answer. A slot exists
before its handler does: until `open` it refuses requests with the reason that `/healthz` gives.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from flash_transport import CodecError
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown, shown_lines
from openpi_flash_server.logs.repeat_limit import RepeatLimit
from openpi_flash_server.slot.encoded_images import decode_images
from openpi_flash_server.slot.request import (
    Answer,
    ErrorCode,
    Failure,
    Reply,
    Request,
    RequestFailed,
    parse_request,
)
from openpi_flash_server.slot.scheduler import Dropped, DropReason, Scheduler
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.tally import Outcome, Summary, Tally

log = EventLogger(__name__)

MAX_WAITING_SESSIONS = 64
"""A waiting request holds some megabytes; with more waiting robots the server is too slow."""


class Handler(Protocol):
    """Runs on a slot's thread, one request at a time."""

    def handle(self, request: Request) -> dict[str, Any]:
        """Computes the models' part of the reply.

        Raises:
            ObservationError: the caller's fault.
        """

    def reset(self, session: Session) -> None:
        """Drops the state of `session`."""


class Slot:
    """One handler, its waiting requests and its thread.

    Args:
        name: `action` or `planner`.
        capacity: how many sessions may wait at once.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int = MAX_WAITING_SESSIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.clock = clock
        self._scheduler: Scheduler[Request] = Scheduler(capacity=capacity)
        self._handler: Handler | None = None
        self._not_ready_because = "starting"
        self._trouble = ""
        self._sequence = 0
        # guards everything above; held for moments, never while a handler runs
        self._changed = threading.Condition()
        self._tally = Tally(clock())
        self._repeats = RepeatLimit()
        # guards the two above, which every transport's thread changes
        self._counting = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"slot-{name}", daemon=True)

    @property
    def not_ready_because(self) -> str | None:
        """Why the slot takes no requests; None when it does."""
        with self._changed:
            return self._not_ready_because or None

    @property
    def unhealthy_because(self) -> str | None:
        """The problem that `/healthz` reports; None if there is none."""
        with self._changed:
            return self._not_ready_because or self._trouble or None

    def has_trouble(self, reason: str) -> None:
        """Reports a problem that only a restart cures to `/healthz`; requests are still taken."""
        with self._changed:
            self._trouble = reason

    def warming_up(self, reason: str) -> None:
        """Sets the reason why the slot is not open yet."""
        with self._changed:
            if not self._closing:
                self._not_ready_because = reason

    def open(self, handler: Handler) -> None:
        """Takes requests from now on. The handler is loaded and warm."""
        with self._changed:
            if self._closing or self._handler is not None:
                raise RuntimeError(f"slot {self.name} cannot be opened twice")
            self._handler = handler
            self._not_ready_because = ""
        self._thread.start()

    def receive(
        self,
        decode: Callable[[], Any],
        *,
        session: str,
        respond: Callable[[Answer], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Takes a message whose last byte has just come; `respond` gets one answer, now or later.

        Args:
            decode: decodes the message; encoded images in it are decoded afterwards.
            session: the transport's name for the client, used if the message names no session.
            respond: takes the answer, on any thread; must not block.
            is_cancelled: whether the client no longer waits for the answer.
        """
        received_at = self.clock()
        try:
            message = decode_images(decode())
            request = parse_request(
                message,
                session=session,
                received_at=received_at,
                decode_ms=(self.clock() - received_at) * 1000,
                respond=respond,
                is_cancelled=is_cancelled,
            )
        except (CodecError, ObservationError) as error:
            self._count_received()
            respond(self._ended(self._bad_request(error), session))
        except Exception as error:
            self._count_received()
            failure = self._failed("message could not be read", error, session)
            respond(self._ended(failure, session))
        else:
            self.submit(request)

    def submit(self, request: Request) -> None:
        """Queues `request`, or refuses it."""
        self._count_received()
        with self._changed:
            refusal = self._not_ready_because
            dropped = []
            if not refusal:
                dropped = self._scheduler.submit(request, self.clock())
                self._changed.notify()
        if refusal:
            self._respond(request, Failure(ErrorCode.NOT_READY, refusal))
        self._refuse(dropped)

    def take_summary(self) -> Summary | None:
        """What happened to requests since the last call; None if there were none."""
        with self._counting:
            return self._tally.take(self.clock())

    def reset(self, session: Session) -> None:
        """Starts `session` anew: drops its waiting request and its state."""
        with self._changed:
            waiting = self._scheduler.forget(session)
            handler = self._handler
        if waiting is not None:
            self._refuse([Dropped(waiting, DropReason.SUPERSEDED)])
        if handler is not None:
            handler.reset(session)

    def stop_accepting(self) -> None:
        """Refuses new requests; waiting ones are still run."""
        with self._changed:
            self._closing = True
            self._not_ready_because = "shutting down"
            self._changed.notify()

    def close(self, *, grace: float) -> bool:
        """Refuses new requests, and runs waiting ones as long as there is time.

        Args:
            grace: how long that may take, s; requests that still wait then are refused.

        Returns:
            Whether every waiting request was run in time.
        """
        self.stop_accepting()
        opened = self._thread.ident is not None
        if opened:
            self._thread.join(grace)
        with self._changed:
            waiting = self._scheduler.clear()
        for request in waiting:
            self._respond(request, Failure(ErrorCode.NOT_READY, "shutting down"))
        return not (opened and self._thread.is_alive())

    def _work(self) -> None:
        while True:
            with self._changed:
                request, dropped = self._scheduler.next(self.clock())
                while request is None and not dropped and not self._closing:
                    self._changed.wait()
                    request, dropped = self._scheduler.next(self.clock())
                if request is not None:
                    self._sequence += 1
                elif not dropped:
                    return
                handler, sequence = self._handler, self._sequence
            self._refuse(dropped)
            if request is not None and handler is not None:
                self._respond(request, self._run(handler, request, sequence))

    def _run(self, handler: Handler, request: Request, sequence: int) -> Answer:
        started = self.clock()
        try:
            result = dict(handler.handle(request))
        except ObservationError as error:
            return self._bad_request(error)
        except RequestFailed as error:
            return error.failure
        # a handler that calls sys.exit must not end the slot's thread
        except BaseException as error:
            return self._failed("request failed", error, request.session)
        finished = self.clock()
        result["server_timing"] = {
            "infer_ms": (finished - started) * 1000,
            "queue_ms": (started - request.received_at) * 1000 - request.decode_ms,
            "decode_ms": request.decode_ms,
        }
        result["sequence"] = sequence
        if request.observation_stamp is not None:
            result["observation_stamp"] = request.observation_stamp
        return Reply(result)

    def _bad_request(self, error: Exception) -> Failure:
        return Failure(ErrorCode.BAD_REQUEST, shown(str(error)), _traceback(error))

    def _failed(self, event: str, error: BaseException, session: Session) -> Failure:
        """The answer to a fault of the server; logs the traceback."""
        failure = Failure(ErrorCode.INTERNAL, _summary(error), _traceback(error))
        if times := self._times_to_say((failure.code, failure.message)):
            log.error(event, exception=error, slot=self.name, session=_named(session), times=times)
        return failure

    def _refuse(self, dropped: list[Dropped[Request]]) -> None:
        for drop in dropped:
            code, message = _DROPPED[drop.reason]
            self._respond(drop.request, Failure(code, message))

    def _respond(self, request: Request, answer: Answer) -> None:
        try:
            request.respond(self._ended(answer, request.session))
        # a fault of one request's transport must not end the thread
        except Exception as error:
            if times := self._times_to_say(("respond", str(error)[:_LONGEST_KEY])):
                log.error(
                    "answer could not be sent",
                    exception=error,
                    slot=self.name,
                    session=_named(request.session),
                    times=times,
                )

    def _ended(self, answer: Answer, session: Session) -> Answer:
        """Counts an answer, and logs why a request was refused; returns the answer."""
        if isinstance(answer, Reply):
            timing = answer.result["server_timing"]
            with self._counting:
                self._tally.answered(queue_ms=timing["queue_ms"], infer_ms=timing["infer_ms"])
            return answer
        outcome = _OUTCOMES[answer.code]
        with self._counting:
            self._tally.ended(outcome)
        if outcome is not Outcome.REFUSED:
            return answer
        # a robot repeats a wrong request at its frame rate
        if times := self._times_to_say((answer.code, session, answer.message)):
            log.info(
                "request refused",
                slot=self.name,
                session=_named(session),
                code=answer.code,
                reason=answer.message,
                times=times,
            )
        return answer

    def _times_to_say(self, key: Hashable) -> int:
        with self._counting:
            return self._repeats.occurred(key, self.clock())

    def _count_received(self) -> None:
        with self._counting:
            self._tally.received()


def _named(session: Session) -> str:
    return shown(session) if isinstance(session, str) else session.name.lower()


def _summary(error: BaseException) -> str:
    """One line about an error; the server's log has the rest."""
    lines = str(error).strip().split("\n", 1)
    return shown(f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__)


def _traceback(error: BaseException) -> str:
    return shown_lines("".join(traceback.format_exception(error)))


_LONGEST_KEY = 100
"""Characters of an error's text by which repeats are recognised."""

_OUTCOMES = {
    ErrorCode.BAD_REQUEST: Outcome.REFUSED,
    ErrorCode.UNAUTHENTICATED: Outcome.REFUSED,
    ErrorCode.SUPERSEDED: Outcome.SUPERSEDED,
    ErrorCode.DEADLINE_EXCEEDED: Outcome.REFUSED,
    ErrorCode.NOT_READY: Outcome.REFUSED,
    ErrorCode.INTERNAL: Outcome.FAILED,
}

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

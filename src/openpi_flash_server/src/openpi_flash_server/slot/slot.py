"""A slot: one handler (a policy or a planner) behind every transport, and the thread that runs it.

The scheduler decides, the thread runs, `respond` carries the answer off. A slot exists before its
handler does: until `open` it refuses with the reason why it is not ready, as `/healthz` says it.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from flash_transport import CodecError
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs import EventLogger
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

log = EventLogger(__name__)

MAX_WAITING_SESSIONS = 64
"""Each holds some megabytes; a server for which more robots wait is too slow for all of them."""


class Handler(Protocol):
    """What a slot runs, on its own thread, one request at a time."""

    def handle(self, request: Request) -> dict[str, Any]:
        """The part of the reply that the models make.

        Raises:
            ObservationError: the caller's fault.
        """

    def reset(self, session: str) -> None:
        """Forgets what it keeps for `session`."""


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
        self._last_bad_request: tuple[str, str] | None = None
        # guards everything above; held for moments, never while a handler runs
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"slot-{name}", daemon=True)

    @property
    def not_ready_because(self) -> str | None:
        """Why the slot takes no requests; None when it does."""
        with self._changed:
            return self._not_ready_because or None

    @property
    def unhealthy_because(self) -> str | None:
        """What `/healthz` complains about; None if all is well."""
        with self._changed:
            return self._not_ready_because or self._trouble or None

    def has_trouble(self, reason: str) -> None:
        """Tells `/healthz` of something that only a restart mends; requests are still taken."""
        with self._changed:
            self._trouble = reason

    def warming_up(self, reason: str) -> None:
        """Says what the slot is busy with before it opens."""
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
            decode: makes the message of its bytes; encoded images in it are decoded then.
            session: the transport's name for the client, used if the message names no session.
            respond: takes the answer, on any thread; must not block.
            is_cancelled: whether nobody wants the answer any more.
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
            respond(self._bad_request(error, session))
        except Exception as error:
            log.error("message could not be read", exception=error, session=session)
            respond(Failure(ErrorCode.INTERNAL, _summary(error), _traceback(error)))
        else:
            self.submit(request)

    def submit(self, request: Request) -> None:
        """Lets `request` wait for its turn, or refuses it."""
        with self._changed:
            refusal = self._not_ready_because
            dropped = []
            if not refusal:
                dropped = self._scheduler.submit(request, self.clock())
                self._changed.notify()
        if refusal:
            _respond(request, Failure(ErrorCode.NOT_READY, refusal))
        self._refuse(dropped)

    def reset(self, session: str) -> None:
        """Starts `session` anew: what waits for it is dropped, what is kept for it is forgotten."""
        with self._changed:
            waiting = self._scheduler.forget(session)
            handler = self._handler
        if waiting is not None:
            self._refuse([Dropped(waiting, DropReason.SUPERSEDED)])
        if handler is not None:
            handler.reset(session)

    def stop_accepting(self) -> None:
        """Refuses what comes from now on; what waits is still run."""
        with self._changed:
            self._closing = True
            self._not_ready_because = "shutting down"
            self._changed.notify()

    def close(self, *, grace: float) -> bool:
        """Refuses what comes, and runs what waits for as long as there is time.

        Args:
            grace: how long that may take, s; what still waits then is refused.

        Returns:
            Whether everything was run in time.
        """
        self.stop_accepting()
        opened = self._thread.ident is not None
        if opened:
            self._thread.join(grace)
        with self._changed:
            waiting = self._scheduler.clear()
        for request in waiting:
            _respond(request, Failure(ErrorCode.NOT_READY, "shutting down"))
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
                _respond(request, self._run(handler, request, sequence))

    def _run(self, handler: Handler, request: Request, sequence: int) -> Answer:
        started = self.clock()
        try:
            result = dict(handler.handle(request))
        except ObservationError as error:
            return self._bad_request(error, request.session)
        except RequestFailed as error:
            return error.failure
        # a handler that calls sys.exit must not end the thread that everybody waits for
        except BaseException as error:
            log.error("request failed", exception=error, slot=self.name, session=request.session)
            return Failure(ErrorCode.INTERNAL, _summary(error), _traceback(error))
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

    def _bad_request(self, error: Exception, session: str) -> Failure:
        # a robot repeats its mistake at its frame rate: say it once
        if self._last_bad_request != (session, str(error)):
            self._last_bad_request = (session, str(error))
            log.warning("bad request", slot=self.name, session=session, reason=str(error))
        return Failure(ErrorCode.BAD_REQUEST, str(error), _traceback(error))

    def _refuse(self, dropped: list[Dropped[Request]]) -> None:
        for drop in dropped:
            code, message = _DROPPED[drop.reason]
            _respond(drop.request, Failure(code, message))


def _respond(request: Request, answer: Answer) -> None:
    try:
        request.respond(answer)
    # the transport's end of one request; the next request has another
    except Exception as error:
        log.error("answer could not be sent", exception=error, session=request.session)


def _summary(error: BaseException) -> str:
    """One line; what else there is to know is in the server's log."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


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

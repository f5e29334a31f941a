"""The connections of a client that chooses its transport, and the thread that makes them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flash_transport import packb, unpackb
from flash_transport.auto.calls import Call, Parked, Sessions, superseded
from flash_transport.auto.choice import Transport, TransportChoice
from flash_transport.auto.failure import Failure, is_final
from flash_transport.auto.quic_side import NoQuic, QuicSide
from flash_transport.auto.waited import in_all, time_left, told
from flash_transport.auto.websocket_link import OpenSide, WebsocketLink
from flash_transport.deadline import Deadline
from flash_transport.errors import Disconnected
from flash_transport.futures import InferenceFuture
from flash_transport.link_estimate import LinkEstimate
from flash_transport.not_begun import NotBegun

__all__ = ["Links"]

if TYPE_CHECKING:
    from typing import TypeAlias

    # needs `websockets`, which may be missing
    from flash_transport.auto.websocket_side import WebsocketSide

    Side: TypeAlias = QuicSide | WebsocketSide

_LOGGER = logging.getLogger("flash_transport")

CLOSED_S = 1.0
"""Longest wait of `close` for the thread."""
HOPELESS_PAUSE_S = 1.0
"""After an attempt over QUIC that the next one can hardly better."""
MOST_LOSSES = 8
"""Connections that may be lost under a request before it is sent; a server that ends each one
would be asked for the next without end."""


class Links:
    """Connects as `TransportChoice` wants it, and knows which connection carries requests.

    Args:
        server: host and port for messages.
        quic: the side of QUIC.
        open_websocket: makes a connection; None where there is no fall-back.
        why_no_websocket: the reason, for people.
        connect_timeout: seconds that a request waits for a connection.
    """

    def __init__(
        self,
        server: str,
        quic: QuicSide | NoQuic,
        open_websocket: OpenSide | None,
        why_no_websocket: str,
        connect_timeout: float,
    ) -> None:
        self._server = server
        self._quic = quic
        self._connect_timeout = connect_timeout
        self._choice = TransportChoice(
            has_fallback=open_websocket is not None, patience_s=connect_timeout
        )
        self._changed = threading.Condition()
        self._failure = Failure(websocket=why_no_websocket)
        self._failed_attempts = 0
        self._websocket = WebsocketLink(open_websocket, self._changed, self._note_websocket)
        self._sessions = Sessions()
        self._parked = Parked()
        self._is_handing_over = False
        """Whether calls that waited are on their way to a transport: newer ones go behind them."""
        self._told: Transport | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="flash-auto", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    @property
    def carrier(self) -> Transport | None:
        """What carries requests now."""
        return self._choice.carrier

    @property
    def reason(self) -> str:
        """Why it is that, for people; without a carrier, why there is none."""
        with self._changed:
            choice = self._choice
            return choice.reason if choice.carrier else self._failure.troubles(choice.quic_trouble)

    @property
    def estimate(self) -> LinkEstimate | None:
        """What the transport that carries requests knows of its path."""
        with self._changed:
            side = self._current()[1]
        return None if side is None else side.link_estimate

    def wait(self, deadline: Deadline) -> tuple[Transport, Side, int]:
        """What carries requests, as soon as there is something; and how many attempts it took.

        Raises:
            FlashTransportError: there is none before the deadline, or within `connect_timeout`.
        """
        started = time.monotonic()
        until = deadline.at_most(self._connect_timeout, started)
        with self._changed:
            finals, attempts, has_waited = self._failure.finals, self._failed_attempts, 0
            while True:
                if self._is_closed:
                    raise self.closed_error()
                carrier, side = self._current()
                if carrier is not None and side is not None:
                    return carrier, side, has_waited + self._failed_attempts - attempts
                if self._failure.finals != finals and self._failure.final is not None:
                    raise self._failure.final
                now = time.monotonic()
                if until.is_over(now):
                    raise self._unreachable(until)
                if not has_waited:
                    has_waited = 1
                    self._choice.begin(now)
                    self._quic.nudge()
                self._changed.wait(until.left(now))

    def turned_down(self, carrier: Transport, error: NotBegun, times: int) -> None:
        """Notes that a request was not begun, whose connection was gone.

        Args:
            carrier: its transport; WebSocket has told by itself that the connection is gone.
            error: what it ended in.
            times: how often that has happened to the request.

        Raises:
            Disconnected: it has happened too often.
        """
        with self._changed:
            # which a request may find before `_run` does
            if carrier is self._choice.carrier is Transport.QUIC:
                self._choice.quic_failed(time.monotonic(), str(error))
                self._quic.nudge()
        if times >= MOST_LOSSES:
            raise Disconnected(
                f"{times} connections to {self._server} were lost before they carried this "
                f"request, the last one over {carrier.value}: {error}"
            )

    def submit(self, call: Call) -> None:
        """Carries a call, now or when there is a connection.

        Raises:
            FlashTransportError: it cannot be packed, or the client is closed.
        """
        with self._changed:
            if self._is_closed:
                raise self.closed_error()
            self._sessions.enter(call)
            carrier, side = self._current()
            must_wait = self._is_handing_over
        try:
            if carrier is None or side is None or must_wait:
                self._park_copy(call)
            else:
                self._carry(call, carrier, side)
        except BaseException:
            self.forget(call)
            raise

    def forget(self, call: Call) -> None:
        """Removes a call that ends."""
        with self._changed:
            self._sessions.leave(call)
            self._parked.remove(call)

    def close(self) -> None:
        """Ends the connections and the calls that wait."""
        with self._changed:
            self._is_closed = True
            websocket = self._websocket.give_up()
            parked = self._parked.take_all()
            self._changed.notify_all()
        self._quic.nudge()
        self._quic.close()
        if websocket is not None:
            websocket.close()
        for call in parked:
            call.fail(self.closed_error())
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSED_S)

    def closed_error(self) -> Disconnected:
        """The error of a closed client."""
        return Disconnected(f"this client of {self._server} is closed")

    def _current(self) -> tuple[Transport | None, Side | None]:
        carrier = self._choice.carrier
        if carrier is Transport.QUIC:
            assert not isinstance(self._quic, NoQuic), "it is never up"
            return carrier, self._quic
        return carrier, self._websocket.side if carrier is Transport.WEBSOCKET else None

    # --- submitted requests ---

    def _park(self, call: Call) -> None:
        now = time.monotonic()
        limit = call.deadline.at_most(self._connect_timeout, now)
        call.give_up_at = now + (limit.left(now) or 0.0)
        older: Call | None = call
        with self._changed:
            # no one looks after a call that comes after `close`
            is_closed = self._is_closed
            if not is_closed and not self._sessions.has_newer(call):
                call.finals = self._failure.finals
                older = self._parked.add(call)
                self._choice.begin(now)
        self._quic.nudge()
        if older is not None:
            older.fail(self.closed_error() if is_closed else superseded())

    def _park_copy(self, call: Call) -> None:
        # the program may change it as soon as `submit` returns
        call.observation = unpackb(packb(call.observation))
        self._park(call)

    def _carry(self, call: Call, carrier: Transport, side: Side) -> None:
        has_waited, now = call.attempts > 0, time.monotonic()
        left = time_left(call.timeout, call.deadline, now, has_waited=has_waited)
        try:
            carried, take_back = side.begin(call.observation, left, call.first)
        except NotBegun:
            # it was closed meanwhile
            self._park_copy(call)
            return
        left_behind = self._websocket.side if carrier is Transport.QUIC else None
        if left_behind is not None:
            # what waits there would reach the server behind this one
            left_behind.give_way(call.observation)
        call.carry(carried)
        carried.add_done_callback(lambda done: self._take(call, done, carrier, take_back))

    def _take(
        self,
        call: Call,
        done: Any,
        carrier: Transport,
        take_back: Callable[[], dict[str, Any]],
    ) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, NotBegun) and not self._is_closed:
            call.observation = take_back()
            call.losses += 1
            try:
                self.turned_down(carrier, error, call.losses)
            except Disconnected as often:
                call.fail(often)
                return
            self._park(call)
        elif isinstance(error, NotBegun):
            call.fail(self.closed_error())
        elif error is not None:
            call.fail(in_all(error, call.deadline, has_waited=call.attempts > 0))
        else:
            assert isinstance(done, InferenceFuture)
            assert done.stats is not None, "it has an answer"
            call.deliver(done.result(), told(done.stats, carrier, call.attempts))

    def _hand_over(self) -> None:
        """Carries the calls that have waited, or ends them."""
        now = time.monotonic()
        with self._changed:
            carrier, side = self._current()
            finals, final = self._failure.finals, self._failure.final
            is_due = side is not None or any(call.finals != finals for call in self._parked)
            calls = self._parked.take_all() if is_due else []
            late = self._parked.take_late(now)
            older = [call for call in calls if self._sessions.has_newer(call)]
            self._is_handing_over = bool(calls)
        for call in late:
            until = call.deadline.at_most(self._connect_timeout, now)
            call.fail(self._unreachable(until))
        for call in calls:
            call.attempts += 1
            try:
                if call in older:
                    raise superseded()
                if carrier is None or side is None:
                    assert final is not None, "it has become due"
                    raise final
                self._carry(call, carrier, side)
            except Exception as error:
                call.fail(error)
        with self._changed:
            self._is_handing_over = False

    # --- the thread ---

    def _run(self) -> None:
        known = 0
        while True:
            number, name, reason, error, heard = self._quic.standing(known, self._until_next())
            is_news, known = number != known, number
            now = time.monotonic()
            with self._changed:
                if self._is_closed:
                    return
                if heard is not None:
                    self._choice.quic_heard(now, *heard)
                elif is_news:
                    self._note_failure(now, name, reason, error)
                self._choice.tick(now)
                self._do(is_up=name == "up")
                self._changed.notify_all()
            self._hand_over()

    def _until_next(self) -> float:
        """Seconds until something is due."""
        now = time.monotonic()
        with self._changed:
            times = [self._choice.next_wakeup(), self._parked.next_late()]
            if self._choice.wants_quic or self._parked:
                times.append(now + self._connect_timeout)
        due = min((at for at in times if at is not None), default=now + IDLE_S)
        return max(0.0, due - now)

    def _note_failure(self, now: float, name: str, reason: str, error: Exception | None) -> None:
        self._failed_attempts += 1
        self._failure = self._failure.of_quic(reason, error)
        pause: float | None = HOPELESS_PAUSE_S if name == "hopeless" else 0.0
        if is_final(error):
            pause = None
        self._choice.quic_failed(now, reason, pause)

    def _do(self, *, is_up: bool) -> None:
        """Connects and hangs up as the choice wants it, and tells people of a change."""
        if self._choice.wants_quic:
            self._quic.begin_connecting()
        elif not is_up:
            self._quic.stop_connecting()
        if self._choice.wants_websocket:
            self._websocket.connect()
        else:
            self._websocket.hang_up()
        self._tell()

    def _tell(self) -> None:
        carrier = self._choice.carrier
        if carrier is None or carrier is self._told:
            return
        before, self._told = self._told, carrier
        if carrier is Transport.WEBSOCKET:
            way = repr(self._websocket.side)
            _LOGGER.warning(
                "requests to %s go over WebSocket (%s): %s", self._server, way, self._choice.reason
            )
        elif before is not None:
            _LOGGER.warning("requests to %s go over QUIC again", self._server)
        else:
            _LOGGER.info("requests to %s go over QUIC", self._server)

    def _note_websocket(self, error: Exception | None) -> None:
        now = time.monotonic()
        if error is None:
            self._choice.websocket_is_up(now)
            self._tell()
        else:
            self._failure = self._failure.of_websocket(error)
            self._choice.websocket_failed(now)
        self._changed.notify_all()
        self._quic.nudge()

    def _unreachable(self, until: Deadline) -> Exception:
        return self._failure.unreachable(self._server, until, self._choice.quic_trouble)


IDLE_S = 3600.0
"""With no connection and nobody who wants one."""

"""The connections of a client that chooses its transport, and the thread that makes them."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flash_transport import packb, unpackb
from flash_transport.auto.calls import Call, Parked, Sessions, superseded
from flash_transport.auto.choice import Transport, TransportChoice
from flash_transport.auto.failure import Failure, is_final
from flash_transport.auto.quic_side import NoQuic, QuicSide
from flash_transport.deadline import Deadline
from flash_transport.errors import Disconnected
from flash_transport.futures import InferenceFuture
from flash_transport.link_estimate import LinkEstimate
from flash_transport.not_begun import NotBegun
from flash_transport.stats import CallStats

__all__ = ["Links", "time_left", "told"]

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


def told(stats: CallStats, carrier: Transport, attempts: int) -> CallStats:
    """The cost of a call with its transport, and the attempts to connect that it waited for."""
    attempts += stats.connect_attempts
    return replace(stats, transport=carrier.value, connect_attempts=attempts)


def time_left(timeout: float | None, deadline: Deadline, *, has_waited: bool) -> float | None:
    """Seconds for a transport: all of them, or, after a wait, what is left, to a millisecond."""
    left = deadline.left(time.monotonic())
    return round(left, 3) if has_waited and left is not None else timeout


class Links:
    """Connects as `TransportChoice` wants it, and knows which connection carries requests.

    Args:
        server: host and port for messages.
        quic: the side of QUIC.
        open_websocket: makes a connection; blocks; None where there is no fall-back.
        why_no_websocket: the reason, for people.
        connect_timeout: seconds that a request waits for a connection.
    """

    def __init__(
        self,
        server: str,
        quic: QuicSide | NoQuic,
        open_websocket: Callable[[], WebsocketSide] | None,
        why_no_websocket: str,
        connect_timeout: float,
    ) -> None:
        self._server = server
        self._quic = quic
        self._open_websocket = open_websocket
        self._connect_timeout = connect_timeout
        self._choice = TransportChoice(
            has_fallback=open_websocket is not None, patience_s=connect_timeout
        )
        self._changed = threading.Condition()
        self._failure = Failure(websocket=why_no_websocket)
        self._failed_attempts = 0
        self._websocket: WebsocketSide | None = None
        self._dial = 0
        """Number of the attempt over WebSocket that is wanted; 0: none is."""
        self._dials = 0
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
                if self._failure.finals != finals and self._failure.error is not None:
                    raise self._failure.error
                now = time.monotonic()
                if until.is_over(now):
                    raise self._unreachable(until)
                if not has_waited:
                    has_waited = 1
                    self._choice.begin(now)
                    self._quic.nudge()
                self._changed.wait(until.left(now))

    def turned_down(self, error: NotBegun) -> None:
        """Notes that QUIC has no connection, which a request found before `_run` did."""
        with self._changed:
            if self._choice.carrier is Transport.QUIC:
                self._choice.quic_failed(time.monotonic(), str(error))
                self._quic.nudge()

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
                # the program may change it as soon as this returns
                call.observation = unpackb(packb(call.observation))
                self._park(call)
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
            websocket, self._websocket, self._dial = self._websocket, None, 0
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
        return carrier, self._websocket if carrier is Transport.WEBSOCKET else None

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

    def _carry(self, call: Call, carrier: Transport, side: Side) -> None:
        left = time_left(call.timeout, call.deadline, has_waited=call.attempts > 0)
        carried, take_back = side.begin(side.named(call.observation), left, call.first)
        call.carry(carried)
        carried.add_done_callback(lambda done: self._take(call, done, carrier, take_back))

    def _take(
        self,
        call: Call,
        done: Any,
        carrier: Transport,
        take_back: Callable[[], dict[str, Any]] | None,
    ) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, NotBegun) and take_back is not None and not self._is_closed:
            call.observation = take_back()
            self.turned_down(error)
            self._park(call)
        elif error is not None:
            call.fail(self.closed_error() if isinstance(error, NotBegun) else error)
        else:
            assert isinstance(done, InferenceFuture)
            assert done.stats is not None, "it has an answer"
            call.deliver(done.result(), told(done.stats, carrier, call.attempts))

    def _hand_over(self) -> None:
        """Carries the calls that have waited, or ends them."""
        now = time.monotonic()
        with self._changed:
            carrier, side = self._current()
            finals, final = self._failure.finals, self._failure.error
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
                    raise final or self.closed_error()
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
        wanted = self._choice.wants_websocket
        if wanted and self._websocket is None and not self._dial:
            self._dials += 1
            self._dial = self._dials
            _in_background(functools.partial(self._connect_websocket, self._dial))
        elif not wanted:
            self._dial = 0
            idle, self._websocket = self._websocket, None
            if idle is not None:
                _in_background(idle.close)
        self._tell()

    def _tell(self) -> None:
        carrier = self._choice.carrier
        if carrier is None or carrier is self._told:
            return
        before, self._told = self._told, carrier
        if carrier is Transport.WEBSOCKET:
            way = repr(self._websocket)
            _LOGGER.warning(
                "requests to %s go over WebSocket (%s): %s", self._server, way, self._choice.reason
            )
        elif before is not None:
            _LOGGER.warning("requests to %s go over QUIC again", self._server)
        else:
            _LOGGER.info("requests to %s go over QUIC", self._server)

    def _connect_websocket(self, dial: int) -> None:
        assert self._open_websocket is not None, "the choice has a fall-back"
        side: WebsocketSide | None = None
        error: Exception | None = None
        try:
            side = self._open_websocket()
        except Exception as failure:
            error = failure
        with self._changed:
            is_wanted = self._dial == dial and not self._is_closed
            if is_wanted:
                self._dial = 0
                now = time.monotonic()
                if side is None:
                    self._failure = self._failure.of_websocket(error)
                    self._choice.websocket_failed(now)
                else:
                    self._websocket = side
                    self._choice.websocket_is_up(now)
                    self._tell()
                self._changed.notify_all()
        if side is not None and not is_wanted:
            side.close()
        self._quic.nudge()

    def _unreachable(self, until: Deadline) -> Exception:
        return self._failure.unreachable(self._server, until, self._choice.quic_trouble)


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="flash-auto-websocket", daemon=True).start()


IDLE_S = 3600.0
"""With no connection and nobody who wants one."""

"""The client of a policy over a WebSocket; its requests share one connection in turn."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from flash_transport import packb
from flash_transport.api_key import checked_api_key
from flash_transport.call_queue import CallQueue, QueuedCall, TryAgain
from flash_transport.deadline import NEVER, Deadline
from flash_transport.errors import (
    AuthenticationFailed,
    Disconnected,
    ServerError,
    Superseded,
    Timeout,
)
from flash_transport.first_actions import FirstActions
from flash_transport.futures import InferenceFuture
from flash_transport.outside_text import shown
from flash_transport.policy import Convert, PolicyClient
from flash_transport.stats import CallStats, RoundTrip
from flash_transport.websocket.connection import Connection, ConnectionClosed, read_map
from flash_transport.websocket.dial import Dialer, backoff
from flash_transport.websocket.target import Target, parse_target
from flash_transport.websocket.trust import TlsTrust

__all__ = ["Ask", "WebsocketPolicy"]


@dataclass
class Ask:
    """A request, and its state between attempts."""

    request: bytes
    serialize_ms: float
    deadline: Deadline
    ready_until: Deadline | None
    """Until when to repeat it while the server is not ready; None before the first attempt."""
    started: float = field(default_factory=time.perf_counter)
    attempts: int = 0
    delays: Iterator[float] = field(default_factory=backoff)
    refused: ServerError | None = None
    """Why the server was not ready, when it was asked last."""


class WebsocketPolicy(PolicyClient):
    """A policy behind openpi's server, or any server of its protocol.

    Any number of threads may share one; their requests take turns, as the protocol requires. Of the
    submitted ones that wait for their turn, the newest of a session wins. Giving up a request that
    is under way closes the connection: the protocol has no other way to cancel it.

    Without `wss://` nothing is encrypted, not even the api key: use it in networks that you trust.

    Args:
        host: name or address of the server, with or without its port, or its URI
            (`wss://host/path`).
        port: TCP port; None: the one in `host`, else 8000 (of a URI: 80, or 443 with TLS).
        api_key: sent to the server as `Authorization: Api-Key ...`; printable ASCII.
        server_fingerprint: for `wss://`: SHA-256 of the server's certificate, which a server of
            openpi-flash prints when it starts (64 hex digits, colons allowed).
        ca_file: for `wss://`: PEM file of certificate authorities; one of them must have signed
            the server's certificate for `host`. Without this and the next and the last one, the
            system's authorities decide.
        known_servers: for `wss://`: file of known servers, as for `FlashTransportPolicy`.
        connect_timeout: seconds to wait for a server that is not there or not ready (yet), now and
            after every loss of the connection.
        open_loop_horizon: see `PolicyClient`.

    Raises:
        Disconnected: nothing listens there, or it is no server of this protocol.
        Timeout: the server does not answer.
        AuthenticationFailed: the server does not accept `api_key`.
        UntrustedServer: the server's TLS certificate is not the trusted one.
        ServerError: the server is there and refuses the connection, for example while it starts.
        ValueError: `host`, `port`, `api_key` or an option for trust is malformed, more than one of
            these is given, or one of them without `wss://`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        api_key: str | None = None,
        server_fingerprint: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        known_servers: str | PathLike[str] | None = None,
        connect_timeout: float = 10.0,
        open_loop_horizon: int | None = None,
    ) -> None:
        super().__init__(open_loop_horizon)
        self._target = parse_target(host, port)
        trust = TlsTrust.of(server_fingerprint, ca_file, known_servers)
        _check_encrypted(self._target, trust)
        key = checked_api_key(api_key)
        self._connect_timeout = connect_timeout
        headers = {} if key is None else {"Authorization": f"Api-Key {key}"}
        self._dialer = Dialer(self._target, headers, self._verified_by(trust))
        # held while a request and its answer use the connection
        self._turn = threading.Lock()
        # the submitted call whose request is under way; may be given up meanwhile
        self._under_way: QueuedCall | None = None
        self._under_way_lock = threading.Lock()
        self._connection: Connection | None = None
        self._metadata: dict[str, Any] = {}
        self._takes_deadlines = False
        self._queue = _queue(self)
        with self._turn:
            self._connect(NEVER)

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS protects the connection."""
        return self._target.is_secure

    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata, from when the connection was made."""
        return self._metadata

    def close(self) -> None:
        """Closes the connection. Requests under way, futures too, end in Disconnected."""
        self._dialer.close()
        self._queue.close()
        connection = self._connection
        if self._turn.acquire(blocking=False):
            try:
                if connection is not None:
                    self._connection = None
                    connection.close()
            finally:
                self._turn.release()
        elif connection is not None:
            connection.abort()
        self._queue.join(_LAST_ANSWERS_S)

    def __repr__(self) -> str:
        state = ", closed" if self._dialer.is_closed else ""
        return f"<WebsocketPolicy {self._target}{state}>"

    def _verified_by(self, trust: TlsTrust) -> TlsTrust:
        """How the server is verified, by what the user said."""
        return trust

    def _infer(self, observation: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        return self._infer_with_stats(observation, timeout)[0]

    def _infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], CallStats]:
        ask = self._pack(observation, timeout)
        while True:
            try:
                return self._ask(ask, None)
            except TryAgain as again:
                delay_s = again.delay_s
            self._pause(delay_s)

    def _submit(
        self,
        observation: dict[str, Any],
        timeout: float | None,
        convert: Convert | None,
        first: FirstActions | None,
    ) -> InferenceFuture:
        return self._enqueue(
            self._pack(observation, timeout), observation.get("session"), convert, first
        )

    def _enqueue(
        self, ask: Ask, session: Any, convert: Convert | None, first: FirstActions | None
    ) -> InferenceFuture:
        def carry(call: QueuedCall) -> tuple[dict[str, Any], CallStats]:
            answer, stats = self._ask(ask, call)
            call.future._deliver_first(answer)
            return (answer if convert is None else convert(answer)), stats

        session = session if isinstance(session, str) else ""
        return self._queue.submit(session, ask.deadline, carry, first)

    def _reset(self) -> None:
        """Sends nothing: openpi's servers keep no state for a client."""

    def _pause(self, seconds: float) -> None:
        """Waits before a request is repeated."""
        self._dialer.pause(seconds)

    @staticmethod
    def _not_sent(dialer: Dialer) -> Disconnected:
        """The error of a submitted request that is not under way when this is closed."""
        return dialer.closed_error()

    def _pack(self, observation: dict[str, Any], timeout: float | None) -> Ask:
        now = time.monotonic()
        deadline = Deadline.after(timeout, now)
        started = time.perf_counter()
        left = deadline.left(now)
        if left is not None and self._takes_deadlines and "deadline_ms" not in observation:
            observation = {**observation, "deadline_ms": max(left * 1000, _LEAST_MS)}
        request = packb(observation)
        serialize_ms = (time.perf_counter() - started) * 1000
        return Ask(request, serialize_ms, deadline, None if deadline.is_never else deadline)

    def _ask(self, ask: Ask, call: QueuedCall | None) -> tuple[dict[str, Any], CallStats]:
        """Sends the request once, and reads the answer.

        Raises:
            TryAgain: the server is not ready, and there is time to ask it again.
        """
        answer, connection = self._exchange_in_turn(ask, call)
        try:
            result = _read_answer(answer, may_be_error=connection.is_ours)
        except ServerError as error:
            now = time.monotonic()
            if ask.ready_until is None:
                ask.ready_until = Deadline.after(self._connect_timeout, now)
            delay_s, left = next(ask.delays), ask.ready_until.left(now)
            if error.code != "not_ready" or (left is not None and delay_s >= left):
                raise
            ask.refused = error.with_traceback(None)
        else:
            round_trip_ms = (time.perf_counter() - ask.started) * 1000
            round_trip = RoundTrip(
                round_trip_ms, len(ask.request), len(answer), ask.attempts, round_trip_ms
            )
            return result, CallStats.of(ask.serialize_ms, round_trip)
        # the server has not begun it: it may be sent again, also to its successor
        raise TryAgain(delay_s, ask.refused)

    def _exchange_in_turn(self, ask: Ask, call: QueuedCall | None) -> tuple[bytes, Connection]:
        """The answer, and the connection that it came by."""
        left = ask.deadline.left(time.monotonic())
        if not self._turn.acquire(timeout=-1 if left is None else left):
            raise self._late_error(ask)
        try:
            connection = self._usable_connection(ask)
            with self._under_way_lock:
                if call is not None:
                    call.check()
                self._under_way = call
            try:
                answer = self._exchange(connection, ask)
            except BaseException:
                self._drop_connection()
                raise
            finally:
                with self._under_way_lock:
                    self._under_way = None
            if isinstance(answer, str):
                # openpi's server closes the connection after it, maybe during the next request
                self._drop_connection()
                raise ServerError("internal", answer)
            return answer, connection
        finally:
            self._turn.release()

    def _exchange(self, connection: Connection, ask: Ask) -> str | bytes:
        try:
            return connection.exchange(ask.request, ask.deadline)
        except TimeoutError:
            raise self._late_error(ask) from None
        except (ConnectionClosed, OSError) as error:
            if self._dialer.is_closed:
                raise self._dialer.closed_error() from None
            if ask.deadline.is_over(time.monotonic()):
                raise self._late_error(ask) from None
            raise Disconnected(
                f"connection to {self._target} was lost before the answer came: "
                f"{shown(str(error))}; the next request connects again"
            ) from error

    def _give_up(self, call: QueuedCall) -> None:
        """Aborts the exchange of a call that was given up, if it is under way."""
        with self._under_way_lock:
            if self._under_way is call and self._connection is not None:
                self._connection.abort()

    def _usable_connection(self, ask: Ask) -> Connection:
        if self._connection is not None:
            if self._connection.is_quiet:
                return self._connection
            self._drop_connection()
        connection, attempts = self._connect(ask.deadline)
        ask.attempts += attempts
        return connection

    def _connect(self, deadline: Deadline) -> tuple[Connection, int]:
        within = deadline.at_most(self._connect_timeout, time.monotonic())
        connection, attempts = self._dialer.connect(within)
        self._connection, self._metadata = connection, connection.metadata
        self._takes_deadlines = connection.takes_deadlines
        if self._dialer.is_closed:  # by another thread, which saw no connection to close
            self._drop_connection()
            raise self._dialer.closed_error()
        return connection, attempts

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _late_error(self, ask: Ask) -> ServerError | Timeout:
        """Why there is no answer; if it was being repeated, the server's reason tells more."""
        return ask.refused or _late_error(str(self._target), ask.deadline)


def _check_encrypted(target: Target, trust: TlsTrust) -> None:
    if not target.is_secure and not trust.is_default:
        raise ValueError(
            f"host is {target}, where no certificate can be verified: write wss://{target.name} "
            "with server_fingerprint, ca_file or known_servers"
        )


def _queue(policy: WebsocketPolicy) -> CallQueue:
    """A queue that does not keep its policy alive, and ends with it."""
    server, dialer = str(policy._target), policy._dialer
    give_up = weakref.WeakMethod(policy._give_up)

    def hang_up(call: QueuedCall) -> None:
        method = give_up()
        if method is not None:
            method(call)

    queue = CallQueue(
        "websocket-futures",
        hang_up=hang_up,
        late=lambda deadline: _late_error(server, deadline),
        closed=functools.partial(policy._not_sent, dialer),
    )
    weakref.finalize(policy, queue.close).atexit = False
    return queue


def _late_error(server: str, deadline: Deadline) -> Timeout:
    return Timeout(f"no answer from {server} within {deadline}")


def _read_answer(answer: bytes, *, may_be_error: bool) -> dict[str, Any]:
    result = read_map(answer)
    error = result.get("error")
    if not (may_be_error and isinstance(error, dict)):
        return result
    code, message = str(error.get("code", "internal")), str(error.get("message", ""))
    if code == "superseded":
        raise Superseded(shown(message))
    if code == "unauthenticated":
        raise AuthenticationFailed(shown(message))
    raise ServerError(code, message)


_LEAST_MS = 0.001
"""Milliseconds to send when no time is left; servers refuse zero."""
_LAST_ANSWERS_S = 1.0
"""Longest wait of `close` for the futures to end; a callback may block them."""

"""openpi's WebSocket protocol, from the robot's side.

Needs `websockets` 13 or newer: `pip install flash_transport[websocket]`.

The server speaks first, with its metadata. Then each request is one binary frame and each answer
another, in turn and without numbers. An answer that comes after its request was given up would look
like the next one's, so a connection with an answer due is closed, never used again.

openpi's server says what went wrong in a text frame and hangs up. A server of openpi-flash takes
the subprotocol that is offered here, sends errors with their code and keeps the connection.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from flash_transport import packb
from flash_transport.courier import Courier, Errand
from flash_transport.deadline import Deadline
from flash_transport.errors import (
    AuthenticationFailed,
    Disconnected,
    ServerError,
    Superseded,
    Timeout,
)
from flash_transport.futures import InferenceFuture
from flash_transport.policy import Convert, Policy
from flash_transport.stats import CallStats
from flash_transport.websocket_link import (
    SUBPROTOCOL,
    ClientConnection,
    ConnectionClosed,
    abort,
    cannot_connect,
    is_quiet,
    limit_sending,
    may_pass,
    open_connection,
    read_map,
    uri_of,
)

__all__ = ["WebsocketPolicy"]


class WebsocketPolicy(Policy):
    """A policy behind openpi's server, or any server of its protocol.

    Any number of threads may share one; their requests take turns, as the protocol demands. Of the
    submitted ones that wait for their turn, the newest of a session wins. Giving one up that is
    under way costs the connection: the protocol has no other way to say so.

    Args:
        host: name or address of the server, or all of its URI (`wss://host/path`).
        port: the server's; None means 8000, or what the URI says.
        api_key: sent to the server as `Authorization: Api-Key ...`.
        connect_timeout: how many seconds to wait for a server that is not there, or not ready,
            (yet), now and whenever the connection was lost.
        open_loop_horizon: see `Policy`.

    Raises:
        Disconnected: nothing listens there, or nothing that speaks the protocol.
        Timeout: the server is silent.
        AuthenticationFailed: the server wants another `api_key`.
        UntrustedServer: the server's TLS certificate is not valid.
        ServerError: the server is there and refuses, for example while it starts.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        api_key: str | None = None,
        connect_timeout: float = 10.0,
        open_loop_horizon: int | None = None,
    ) -> None:
        super().__init__(open_loop_horizon)
        self._uri = uri_of(host, port)
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else {}
        self._connect_timeout = connect_timeout
        # holds while a request and its answer own the connection
        self._turn = threading.Lock()
        # of those, the submitted one that may be given up meanwhile
        self._on_the_way: Errand | None = None
        self._on_the_way_lock = threading.Lock()
        self._closed = threading.Event()
        self._connection: ClientConnection | None = None
        self._metadata: dict[str, Any] = {}
        self._takes_deadlines = False
        self._courier = _courier(self)
        with self._turn:
            self._connect(Deadline(None))

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said about itself when the connection was made."""
        return self._metadata

    def close(self) -> None:
        """Closes the connection. Requests under way, futures too, end in Disconnected."""
        self._closed.set()
        self._courier.close()
        connection = self._connection
        if self._turn.acquire(blocking=False):
            try:
                if connection is not None:
                    self._connection = None
                    connection.close()
            finally:
                self._turn.release()
        elif connection is not None:
            abort(connection)
        self._courier.join(_LAST_ANSWERS_S)

    def __repr__(self) -> str:
        state = ", closed" if self._closed.is_set() else ""
        return f"<WebsocketPolicy {self._uri}{state}>"

    def _infer(self, observation: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        return self._infer_with_stats(observation, timeout)[0]

    def _infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], CallStats]:
        deadline = Deadline(timeout)
        request, serialize_ms = self._pack(observation, deadline)
        return self._call(request, serialize_ms, deadline, None)

    def _submit(
        self, observation: dict[str, Any], timeout: float | None, convert: Convert | None
    ) -> InferenceFuture:
        deadline = Deadline(timeout)
        request, serialize_ms = self._pack(observation, deadline)
        session = observation.get("session")

        def carry(errand: Errand) -> tuple[dict[str, Any], CallStats]:
            answer, stats = self._call(request, serialize_ms, deadline, errand)
            return (answer if convert is None else convert(answer)), stats

        return self._courier.submit(session if isinstance(session, str) else "", deadline, carry)

    def _reset(self) -> None:
        """Says nothing to the server: openpi's keep no state for a client."""

    def _pack(self, observation: dict[str, Any], deadline: Deadline) -> tuple[bytes, float]:
        """The request, and how many milliseconds packing it took."""
        started = time.perf_counter()
        left = deadline.left()
        if left is not None and self._takes_deadlines and "deadline_ms" not in observation:
            observation = {**observation, "deadline_ms": max(left * 1000, _LEAST_MS)}
        request = packb(observation)
        return request, (time.perf_counter() - started) * 1000

    def _call(
        self, request: bytes, serialize_ms: float, deadline: Deadline, errand: Errand | None
    ) -> tuple[dict[str, Any], CallStats]:
        """Asks, and asks again as long as the server is not ready."""
        started = time.perf_counter()
        ready_until: Deadline | None = None if deadline.is_never else deadline
        attempts = 0
        for delay in _backoff():
            answer, connection, attempts_now = self._exchange_in_turn(request, deadline, errand)
            attempts += attempts_now
            try:
                result = _read_answer(answer, may_be_error=connection.subprotocol == SUBPROTOCOL)
            except ServerError as error:
                if ready_until is None:
                    ready_until = Deadline(self._connect_timeout)
                if error.code != "not_ready" or delay >= ready_until.left():
                    raise
                # the server has not begun it: it may be sent again, also to the next server
                self._pause(errand, delay)
            else:
                round_trip_ms = (time.perf_counter() - started) * 1000
                up, down = len(request), len(answer)
                return result, CallStats(serialize_ms, round_trip_ms, up, down, attempts)
        raise AssertionError("the pauses have no end")

    def _pause(self, errand: Errand | None, seconds: float) -> None:
        if errand is not None:
            self._courier.pause(errand, seconds)
        elif self._closed.wait(seconds):
            raise _closed_error(self._uri)

    def _exchange_in_turn(
        self, request: bytes, deadline: Deadline, errand: Errand | None
    ) -> tuple[bytes, ClientConnection, int]:
        """The answer, the connection that it came by, and the attempts to make that."""
        if not self._turn.acquire(timeout=deadline.left(forever=-1)):
            raise _late_error(self._uri, deadline)
        try:
            connection, attempts = self._usable_connection(deadline)
            with self._on_the_way_lock:
                if errand is not None:
                    errand.check()
                self._on_the_way = errand
            try:
                answer = self._exchange(connection, request, deadline)
            except BaseException:
                self._drop_connection()
                raise
            finally:
                with self._on_the_way_lock:
                    self._on_the_way = None
            if isinstance(answer, str):
                # openpi's server hangs up after it, which may take until the next request
                self._drop_connection()
                raise ServerError("internal", answer)
            return answer, connection, attempts
        finally:
            self._turn.release()

    def _exchange(
        self, connection: ClientConnection, request: bytes, deadline: Deadline
    ) -> str | bytes:
        try:
            limit_sending(connection.socket, deadline)
            connection.send(request)
            return connection.recv(timeout=deadline.left())
        except TimeoutError:
            raise _late_error(self._uri, deadline) from None
        except (ConnectionClosed, OSError) as error:
            if self._closed.is_set():
                raise _closed_error(self._uri) from None
            if deadline.left(forever=1) <= 0:
                raise _late_error(self._uri, deadline) from None
            raise Disconnected(
                f"connection to {self._uri} was lost before the answer came: {error}; "
                "the next request connects again"
            ) from error

    def _give_up(self, errand: Errand) -> None:
        """Ends the exchange of a request that nobody wants any more, if it is under way."""
        with self._on_the_way_lock:
            if self._on_the_way is errand and self._connection is not None:
                abort(self._connection)

    def _usable_connection(self, deadline: Deadline) -> tuple[ClientConnection, int]:
        if self._connection is not None and not is_quiet(self._connection):
            self._drop_connection()
        return (self._connection, 0) if self._connection is not None else self._connect(deadline)

    def _connect(self, deadline: Deadline) -> tuple[ClientConnection, int]:
        deadline = deadline.at_most(self._connect_timeout)
        attempts = 0
        telling: Exception | None = None
        for delay in _backoff():
            if self._closed.is_set():
                raise _closed_error(self._uri)
            attempts += 1
            try:
                connection, metadata = open_connection(self._uri, self._headers, deadline)
            except Exception as error:
                # the last attempt may have had no time left to find out more than the ones before
                if telling is None or not isinstance(error, TimeoutError):
                    telling = error
                if may_pass(error):
                    self._closed.wait(min(delay, deadline.left()))
                if not may_pass(error) or deadline.left() <= 0:
                    raise cannot_connect(self._uri, telling, deadline) from telling
            else:
                break
        self._connection, self._metadata = connection, metadata
        is_ours = connection.subprotocol == SUBPROTOCOL
        self._takes_deadlines = is_ours and _supports_deadlines(metadata)
        if self._closed.is_set():  # by another thread, which saw no connection to close
            self._drop_connection()
            raise _closed_error(self._uri)
        return connection, attempts

    def _drop_connection(self) -> None:
        if self._connection is not None:
            abort(self._connection)
            self._connection = None


def _courier(policy: WebsocketPolicy) -> Courier:
    """A courier that does not keep its policy alive, and ends with it."""
    uri = policy._uri
    give_up = weakref.WeakMethod(policy._give_up)

    def hang_up(errand: Errand) -> None:
        method = give_up()
        if method is not None:
            method(errand)

    courier = Courier(
        "websocket-futures",
        hang_up=hang_up,
        late=lambda deadline: _late_error(uri, deadline),
        closed=lambda: _closed_error(uri),
    )
    weakref.finalize(policy, courier.close).atexit = False
    return courier


def _late_error(uri: str, deadline: Deadline) -> Timeout:
    return Timeout(f"no answer from {uri} within {deadline}")


def _closed_error(uri: str) -> Disconnected:
    return Disconnected(f"this client of {uri} is closed")


def _supports_deadlines(metadata: dict[str, Any]) -> bool:
    supported = metadata.get("supports")
    return isinstance(supported, list) and "deadline_ms" in supported


def _backoff() -> Iterator[float]:
    """Seconds between attempts, spread so that robots do not come back all at once."""
    step = 0.05
    while True:
        yield random.uniform(step / 2, step)
        step = min(2 * step, 1.0)


def _read_answer(answer: bytes, *, may_be_error: bool) -> dict[str, Any]:
    result = read_map(answer)
    error = result.get("error")
    if not (may_be_error and isinstance(error, dict)):
        return result
    code, message = str(error.get("code", "internal")), str(error.get("message", ""))
    if code == "superseded":
        raise Superseded(message)
    if code == "unauthenticated":
        raise AuthenticationFailed(message)
    raise ServerError(code, message)


_LEAST_MS = 0.001
"""What says that the time is over; zero would be no time at all, which servers refuse."""
_LAST_ANSWERS_S = 1.0
"""Until the futures of a closed client have their ends, unless a callback of theirs blocks."""

"""openpi's WebSocket protocol, from the robot's side.

Needs `websockets` 13 or newer: `pip install flash_transport[websocket]`.

The server speaks first, with its metadata. Then each request is one binary frame and each answer
another, in turn and without numbers. An answer that comes after its request was given up would look
like the next one's, so a connection with an answer due is closed, never used again.

openpi's server says what went wrong in a text frame and hangs up. A server of openpi-flash takes
the subprotocol that is offered here, sends errors with their code and keeps the connection.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

try:
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
    from websockets.protocol import State
    from websockets.sync.client import ClientConnection, connect
    from websockets.typing import Subprotocol
except ImportError as _error:
    raise ImportError(
        "the WebSocket client needs websockets 13 or newer: pip install 'websockets>=13'"
    ) from _error

from flash_transport import packb, unpackb
from flash_transport.errors import (
    AuthenticationFailed,
    CodecError,
    Disconnected,
    FlashTransportError,
    ServerError,
    Superseded,
    Timeout,
    UntrustedServer,
)

__all__ = ["WebsocketPolicy"]

_DEFAULT_PORT = 8000
_SUBPROTOCOL = "openpi-flash.1"


class WebsocketPolicy:
    """A policy behind openpi's server, or any server of its protocol.

    Any number of threads may share one; their requests take turns, as the protocol demands.
    A lost connection costs the request it carried: the next one connects again.

    Args:
        host: name or address of the server, or all of its URI (`wss://host/path`).
        port: the server's; None means 8000, or what the URI says.
        api_key: sent to the server as `Authorization: Api-Key ...`.
        connect_timeout: how many seconds to wait for a server that is not there (yet), now and
            whenever the connection was lost.

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
    ) -> None:
        self._uri = _uri(host, port)
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else {}
        self._connect_timeout = connect_timeout
        # holds while a request and its answer own the connection
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self._connection: ClientConnection | None = None
        self._metadata: dict[str, Any] = {}
        with self._turn:
            self._connect(_Deadline(None))

    def infer(self, observation: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Asks the policy what to do.

        Args:
            observation: what the robot sees, as the policy wants it.
            timeout: seconds until the answer is of no use any more, connecting included.

        Returns:
            The answer; its arrays are read-only.

        Raises:
            Timeout: the answer did not come in time. It will not come later.
            Disconnected: the connection was lost, or could not be made again.
            ServerError: the server could not answer this request.
            Superseded: a newer observation took this one's place.
            CodecError: the observation, or the answer, is nothing that can travel.
        """
        deadline = _Deadline(timeout)
        request = packb(observation)
        if not self._turn.acquire(timeout=deadline.left(forever=-1)):
            raise self._timeout(deadline)
        try:
            connection = self._usable_connection(deadline)
            try:
                answer = self._exchange(connection, request, deadline)
            except BaseException:
                self._drop_connection()
                raise
            if isinstance(answer, str):
                # openpi's server hangs up after it, which may take until the next request
                self._drop_connection()
                raise ServerError("internal", answer)
        finally:
            self._turn.release()
        return _read_answer(answer, may_be_error=connection.subprotocol == _SUBPROTOCOL)

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said about itself when the connection was made."""
        return self._metadata

    def reset(self) -> None:
        """Starts a new episode; nothing to do, openpi's servers keep no state for a client."""

    def close(self) -> None:
        """Closes the connection. A request that another thread waits for ends in Disconnected."""
        self._closed.set()
        connection = self._connection
        if not self._turn.acquire(blocking=False):
            if connection is not None:
                _abort(connection)
            return
        try:
            if connection is not None:
                self._connection = None
                connection.close()
        finally:
            self._turn.release()

    def __enter__(self) -> WebsocketPolicy:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(
        self, connection: ClientConnection, request: bytes, deadline: _Deadline
    ) -> str | bytes:
        try:
            _limit_sending(connection.socket, deadline)
            connection.send(request)
            return connection.recv(timeout=deadline.left())
        except TimeoutError:
            raise self._timeout(deadline) from None
        except (ConnectionClosed, OSError) as error:
            if self._closed.is_set():
                raise self._closed_error() from None
            if deadline.left(forever=1) <= 0:
                raise self._timeout(deadline) from None
            raise Disconnected(
                f"connection to {self._uri} was lost before the answer came: {error}; "
                "the next request connects again"
            ) from error

    def _usable_connection(self, deadline: _Deadline) -> ClientConnection:
        if self._connection is not None and not _is_quiet(self._connection):
            self._drop_connection()
        return self._connection or self._connect(deadline)

    def _connect(self, deadline: _Deadline) -> ClientConnection:
        deadline = deadline.at_most(self._connect_timeout)
        for delay in _backoff():
            if self._closed.is_set():
                raise self._closed_error()
            try:
                connection, metadata = self._open(deadline)
            except Exception as error:
                if _may_pass(error):
                    self._closed.wait(min(delay, deadline.left()))
                if not _may_pass(error) or deadline.left() <= 0:
                    raise self._cannot_connect(error, deadline) from error
            else:
                break
        self._connection, self._metadata = connection, metadata
        if self._closed.is_set():  # by another thread, which saw no connection to close
            self._drop_connection()
            raise self._closed_error()
        return connection

    def _open(self, deadline: _Deadline) -> tuple[ClientConnection, dict[str, Any]]:
        # entered here and left by closing the connection: it outlives any block
        connection = connect(
            self._uri,
            additional_headers=self._headers,
            subprotocols=[Subprotocol(_SUBPROTOCOL)],
            compression=None,
            max_size=None,
            open_timeout=max(deadline.left(), 0.001),  # 0 would not wait for TCP at all
            close_timeout=1,
            **_NO_PINGS,
        ).__enter__()
        try:
            _watch_peer(connection.socket)
            metadata = connection.recv(timeout=deadline.left())
            if isinstance(metadata, str):
                raise ServerError("internal", metadata)
            return connection, _read_map(metadata)
        except BaseException:
            _abort(connection)
            raise

    def _drop_connection(self) -> None:
        if self._connection is not None:
            _abort(self._connection)
            self._connection = None

    def _cannot_connect(self, error: Exception, deadline: _Deadline) -> FlashTransportError:
        if isinstance(error, ServerError):
            return error
        if isinstance(error, InvalidStatus) and error.response.status_code in _STATUS:
            return _STATUS[error.response.status_code](self._uri, _body_of(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            return UntrustedServer(f"certificate of {self._uri} is not valid: {error}")
        if isinstance(error, TimeoutError):
            return Timeout(f"cannot connect to {self._uri} within {deadline}: it is silent")
        if isinstance(error, (InvalidHandshake, ValueError)) and not _may_pass(error):
            return Disconnected(
                f"{self._uri} speaks another protocol: {error}; "
                "check that the port is the server's WebSocket port"
            )
        return Disconnected(
            f"cannot connect to {self._uri} within {deadline}: {error}; "
            "check that the server runs, that host and port are right, and that TCP is let through"
        )

    def _timeout(self, deadline: _Deadline) -> Timeout:
        return Timeout(f"no answer from {self._uri} within {deadline}")

    def _closed_error(self) -> Disconnected:
        return Disconnected(f"this client of {self._uri} is closed")


class _Deadline:
    """A point in time, or never."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._start = time.monotonic()

    def left(self, forever: float | None = None) -> Any:
        """Seconds left, at least 0; `forever` where there is no end."""
        if self._seconds is None:
            return forever
        return max(0.0, self._start + self._seconds - time.monotonic())

    def at_most(self, seconds: float) -> _Deadline:
        left = self.left(forever=seconds)
        return self if left < seconds else _Deadline(seconds)

    def __str__(self) -> str:
        return f"{self._seconds:g} s"


def _uri(host: str, port: int | None) -> str:
    if host.startswith(("ws://", "wss://")):
        return host if port is None else f"{host}:{port}"
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"ws://{host}:{_DEFAULT_PORT if port is None else port}"


def _may_pass(error: Exception) -> bool:
    """Whether to try again: a server that starts or restarts, a network that comes up."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in (502, 503, 504)
    if isinstance(error, (socket.gaierror, ssl.SSLError)):
        return False
    # a server that goes down in the middle of the handshake sends less than an HTTP answer
    return isinstance(error, (OSError, EOFError, ConnectionClosed)) or isinstance(
        error.__cause__, EOFError
    )


def _backoff() -> Iterator[float]:
    """Seconds between attempts, spread so that robots do not come back all at once."""
    step = 0.05
    while True:
        yield random.uniform(step / 2, step)
        step = min(2 * step, 1.0)


def _read_answer(answer: bytes, *, may_be_error: bool) -> dict[str, Any]:
    result = _read_map(answer)
    error = result.get("error")
    if not (may_be_error and isinstance(error, dict)):
        return result
    code, message = str(error.get("code", "internal")), str(error.get("message", ""))
    if code == "superseded":
        raise Superseded(message)
    if code == "unauthenticated":
        raise AuthenticationFailed(message)
    raise ServerError(code, message)


def _read_map(data: bytes) -> dict[str, Any]:
    value = unpackb(data)
    if not isinstance(value, dict):
        raise CodecError(f"message is {type(value).__name__}, expected a map")
    return value


def _body_of(error: InvalidStatus) -> str:
    body = (error.response.body or b"").decode(errors="replace").strip()
    return body or f"HTTP {error.response.status_code}"


def _is_quiet(connection: ClientConnection) -> bool:
    """Whether the connection is open and nothing waits on it that nobody asked for."""
    try:
        connection.recv(timeout=0)
    except TimeoutError:
        # its end may have come in, and not yet have come through to recv()
        return connection.protocol.state is State.OPEN
    except ConnectionClosed:
        pass
    return False


def _abort(connection: ClientConnection) -> None:
    # not close(): its handshake waits for a peer that may be computing, or gone
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def _limit_sending(sock: socket.socket, deadline: _Deadline) -> None:
    """Keeps a server that does not read from holding us for longer than we have."""
    microseconds = int(deadline.left(forever=0) * 1e6)
    if deadline.left() is not None:
        microseconds = max(1, microseconds)  # 0 would mean no limit
    limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _watch_peer(sock: socket.socket) -> None:
    """Lets the kernel find out within 20 s that the server's host is gone.

    WebSocket pings would find it too, but openpi's server answers none while it computes, and the
    first computation takes longer than any ping may.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _refused(uri: str, text: str) -> FlashTransportError:
    return AuthenticationFailed(f"{uri} refused the api key: {text}")


def _not_ready(_uri: str, text: str) -> FlashTransportError:
    return ServerError("not_ready", text.removeprefix("not_ready: "))


_STATUS = {401: _refused, 403: _refused, 503: _not_ready}

_KEEPALIVE = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,
}

# clients before websockets 15 send no pings, and do not know the argument
_NO_PINGS: dict[str, Any] = (
    {"ping_interval": None} if "ping_interval" in inspect.signature(connect).parameters else {}
)

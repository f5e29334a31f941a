"""One WebSocket connection to a server of openpi's protocol: made, watched and thrown away."""

from __future__ import annotations

import contextlib
import inspect
import socket
import ssl
import struct
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

from flash_transport import unpackb
from flash_transport.deadline import Deadline
from flash_transport.errors import (
    AuthenticationFailed,
    CodecError,
    Disconnected,
    FlashTransportError,
    ServerError,
    Timeout,
    UntrustedServer,
)

__all__ = [
    "SUBPROTOCOL",
    "ClientConnection",
    "ConnectionClosed",
    "abort",
    "cannot_connect",
    "is_open",
    "is_quiet",
    "limit_sending",
    "may_pass",
    "open_connection",
    "read_map",
    "uri_of",
]

_DEFAULT_PORT = 8000
SUBPROTOCOL = "openpi-flash.1"


def uri_of(host: str, port: int | None) -> str:
    """The URI of a server that is named in any of the ways that openpi's client takes."""
    if host.startswith(("ws://", "wss://")):
        return host if port is None else f"{host}:{port}"
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"ws://{host}:{_DEFAULT_PORT if port is None else port}"


def open_connection(
    uri: str, headers: dict[str, str], deadline: Deadline
) -> tuple[ClientConnection, dict[str, Any]]:
    """A new connection, and the metadata with which the server begins.

    Raises:
        Exception: anything that websockets, TLS or the kernel says; `may_pass` and
            `cannot_connect` tell what it means.
    """
    # entered here and left by closing the connection: it outlives any block
    connection = connect(
        uri,
        additional_headers=headers,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
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
        return connection, read_map(metadata)
    except BaseException:
        abort(connection)
        raise


def may_pass(error: Exception) -> bool:
    """Whether to try again: a server that starts or restarts, a network that comes up."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in (502, 503, 504)
    if isinstance(error, (socket.gaierror, ssl.SSLError)):
        return False
    # a server that goes down in the middle of the handshake sends less than an HTTP answer
    return isinstance(error, (OSError, EOFError, ConnectionClosed)) or isinstance(
        error.__cause__, EOFError
    )


def cannot_connect(uri: str, error: Exception, deadline: Deadline) -> FlashTransportError:
    """What it means to the caller that there is no connection."""
    if isinstance(error, ServerError):
        return error
    if isinstance(error, InvalidStatus) and error.response.status_code in _STATUS:
        return _STATUS[error.response.status_code](uri, _body_of(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return UntrustedServer(f"certificate of {uri} is not valid: {error}")
    if isinstance(error, TimeoutError):
        return Timeout(f"cannot connect to {uri} within {deadline}: it is silent")
    if isinstance(error, (InvalidHandshake, ValueError)) and not may_pass(error):
        return Disconnected(
            f"{uri} speaks another protocol: {error}; "
            "check that the port is the server's WebSocket port"
        )
    return Disconnected(
        f"cannot connect to {uri} within {deadline}: {error}; "
        "check that the server runs, that host and port are right, and that TCP is let through"
    )


def read_map(data: bytes) -> dict[str, Any]:
    """A message that must be a map.

    Raises:
        CodecError: it is none.
    """
    value = unpackb(data)
    if not isinstance(value, dict):
        raise CodecError(f"message is {type(value).__name__}, expected a map")
    return value


def is_open(connection: ClientConnection) -> bool:
    """Whether nobody has closed the connection, as far as is known."""
    return connection.protocol.state is State.OPEN


def is_quiet(connection: ClientConnection) -> bool:
    """Whether the connection is open and nothing waits on it that nobody asked for."""
    try:
        connection.recv(timeout=0)
    except TimeoutError:
        # its end may have come in, and not yet have come through to recv()
        return is_open(connection)
    except ConnectionClosed:
        pass
    return False


def abort(connection: ClientConnection) -> None:
    """Ends a connection at once, from any thread."""
    # not close(): its handshake waits for a peer that may be computing, or gone
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def limit_sending(sock: socket.socket, deadline: Deadline) -> None:
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


def _body_of(error: InvalidStatus) -> str:
    body = (error.response.body or b"").decode(errors="replace").strip()
    return body or f"HTTP {error.response.status_code}"


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

"""One WebSocket connection to a server of openpi's protocol."""

from __future__ import annotations

import contextlib
import inspect
import logging
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Any

try:
    from websockets.exceptions import ConnectionClosed
    from websockets.protocol import State
    from websockets.sync.client import ClientConnection, connect
    from websockets.typing import Subprotocol
except ImportError as _error:
    raise ImportError(
        "the WebSocket client needs websockets 13 or newer: pip install 'websockets>=13'"
    ) from _error

from flash_transport import unpackb
from flash_transport.deadline import Deadline
from flash_transport.errors import CodecError, ServerError
from flash_transport.websocket.proxies import Proxy
from flash_transport.websocket.staggered import connected_socket
from flash_transport.websocket.target import Target

__all__ = ["KNOWS_PROXIES", "Connection", "ConnectionClosed", "open_connection", "read_map"]

SUBPROTOCOL = "openpi-flash.1"


@dataclass(frozen=True)
class Connection:
    """An open connection.

    Attributes:
        socket: the connection of `websockets`.
        metadata: the server's first message.
    """

    socket: ClientConnection
    metadata: dict[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether the server is openpi-flash, whose errors are maps with a code."""
        return self.socket.subprotocol == SUBPROTOCOL

    @property
    def takes_deadlines(self) -> bool:
        """Whether the server reads `deadline_ms`."""
        supports = self.metadata.get("supports")
        return self.is_ours and isinstance(supports, list) and "deadline_ms" in supports

    @property
    def is_quiet(self) -> bool:
        """Whether the connection is open and holds no unexpected message."""
        try:
            self.socket.recv(timeout=0)
        except TimeoutError:
            # its end may have arrived without having reached recv()
            return self.socket.protocol.state is State.OPEN
        except ConnectionClosed:
            pass
        return False

    def exchange(self, request: bytes, deadline: Deadline) -> str | bytes:
        """Sends a request and waits for its answer.

        Raises:
            TimeoutError: the deadline is over.
            ConnectionClosed, OSError: the connection is lost.
        """
        _limit_sending(self.socket.socket, deadline)
        self.socket.send(request)
        return self.socket.recv(timeout=deadline.left(time.monotonic()))

    def close(self) -> None:
        """Closes with a handshake, for which it waits a second at most."""
        self.socket.close()

    def abort(self) -> None:
        """Ends the connection at once, from any thread."""
        _abort(self.socket)


def open_connection(
    target: Target,
    headers: dict[str, str],
    deadline: Deadline,
    addresses: list[tuple[str, int]],
    proxy: Proxy | None,
    *,
    tls: ssl.SSLContext | None = None,
) -> Connection:
    """Makes a connection and receives the metadata.

    Args:
        target: the server.
        headers: of the handshake's request.
        deadline: for everything.
        addresses: the server's, of which the first that answers is taken; none with a proxy.
        proxy: to connect through.
        tls: of a `wss://` server; None: the system's authorities verify it.

    Raises:
        Exception: what websockets, TLS or the kernel raises; `failures` says what it means.
    """
    way: dict[str, Any] = {}
    if proxy is not None:
        way["proxy"] = proxy.url
    else:
        way["sock"] = connected_socket(addresses, deadline)
    if tls is not None:
        way["ssl"] = tls
    # entered here and left by closing the connection, which outlives any block
    connection = connect(
        target.uri,
        additional_headers=headers,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        max_size=None,
        open_timeout=_seconds(deadline),
        close_timeout=1,
        logger=_LOGGER,
        **way,
        **_NO_PINGS,
    ).__enter__()
    try:
        _watch_peer(connection.socket)
        metadata = connection.recv(timeout=_seconds(deadline))
        if isinstance(metadata, str):
            raise ServerError("internal", metadata)
        return Connection(connection, read_map(metadata))
    except BaseException:
        _abort(connection)
        raise


def read_map(data: bytes) -> dict[str, Any]:
    """Unpacks a message that must be a map.

    Raises:
        CodecError: it is not a map.
    """
    value = unpackb(data)
    if not isinstance(value, dict):
        raise CodecError(f"message is {type(value).__name__}, expected a map")
    return value


def _seconds(deadline: Deadline) -> float | None:
    """The time left, above 0: libraries take 0 for not waiting."""
    left = deadline.left(time.monotonic())
    return None if left is None else max(left, 0.001)


def _abort(connection: ClientConnection) -> None:
    # not close(): its handshake waits for a peer that may be computing or gone
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def _limit_sending(sock: socket.socket, deadline: Deadline) -> None:
    """Limits sending to the deadline, in case the server does not read."""
    left = deadline.left(time.monotonic())
    # 0 means no limit
    microseconds = 0 if left is None else max(1, int(left * 1e6))
    limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _watch_peer(sock: socket.socket) -> None:
    """Sets TCP keep-alive, so that the kernel notices within 20 s that the server's host is gone.

    WebSocket pings would notice it, too, but openpi's server answers none while it computes, and
    its first computation takes longer than a ping may take.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _hide_key(record: logging.LogRecord) -> bool:
    """Hides the api key: before version 15, websockets logs the headers at level debug."""
    arguments = record.args
    if isinstance(arguments, tuple) and str(arguments[:1]).lower() == "('authorization',)":
        record.args = (arguments[0], "...")
    return True


_LOGGER = logging.getLogger("flash_transport.websocket")
_LOGGER.addFilter(_hide_key)

_KEEPALIVE = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,
}

_PARAMETERS = inspect.signature(connect).parameters
KNOWS_PROXIES = "proxy" in _PARAMETERS
"""Arguments of websockets since version 15."""
# versions before 15 send no pings, and do not know the argument
_NO_PINGS: dict[str, Any] = {"ping_interval": None} if "ping_interval" in _PARAMETERS else {}

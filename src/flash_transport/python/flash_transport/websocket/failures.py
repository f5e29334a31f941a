"""Why a connection failed: whether to try again, and what to tell the user."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from flash_transport.deadline import Deadline
from flash_transport.errors import (
    AuthenticationFailed,
    Disconnected,
    FlashTransportError,
    ServerError,
    Timeout,
    UntrustedServer,
)
from flash_transport.outside_text import shown
from flash_transport.websocket.proxies import Proxy
from flash_transport.websocket.target import Target

__all__ = ["NoTls", "cannot_connect", "may_pass"]


class NoTls(Disconnected):
    """The server answers a TLS handshake with something else, or with the end."""


def may_pass(error: Exception) -> bool:
    """Whether to try again: the server may be starting, the network coming up."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in (502, 503, 504)
    if isinstance(error, (socket.gaierror, ssl.SSLError, UntrustedServer)):
        return False
    # a server that stops during the handshake sends an incomplete HTTP response
    return isinstance(error, (OSError, EOFError, ConnectionClosed)) or isinstance(
        error.__cause__, EOFError
    )


def cannot_connect(
    target: Target, error: Exception, deadline: Deadline, proxy: Proxy | None, note: str = ""
) -> FlashTransportError:
    """The error that tells the user why there is no connection.

    Args:
        target: the server.
        error: what `open_connection` raised.
        deadline: of the attempts.
        proxy: that the attempts used, if any.
        note: appended to the message.
    """
    if isinstance(error, (ServerError, UntrustedServer)):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return UntrustedServer(f"certificate of {target} is not valid: {shown(str(error))}")
    if proxy is not None:
        return _no_way_through(target, error, deadline, proxy)
    if isinstance(error, InvalidStatus) and error.response.status_code in _BY_STATUS:
        return _BY_STATUS[error.response.status_code](target, _body_of(error))
    if isinstance(error, ssl.SSLError):
        return NoTls(
            f"{target} does not speak TLS ({shown(error.reason or str(error))}); check that the "
            "port is the server's WebSocket port, and that its version has TLS there"
        )
    return _no_connection(target, error, deadline, note)


def _no_connection(
    target: Target, error: Exception, deadline: Deadline, note: str
) -> FlashTransportError:
    if isinstance(error, TimeoutError):
        return Timeout(f"cannot connect to {target} within {deadline}: it does not answer{note}")
    if isinstance(error, socket.gaierror):
        return Disconnected(
            f"cannot connect to {target}: cannot look up the host's name "
            f"({shown(error.strerror or str(error))}); check the name, or write the address"
        )
    if isinstance(error, (InvalidHandshake, ValueError)) and not may_pass(error):
        return Disconnected(
            f"{target} does not speak openpi's protocol: {shown(str(error))}; "
            f"check that the port is the server's WebSocket port{note}"
        )
    return Disconnected(
        f"cannot connect to {target} within {deadline}: {shown(str(error))}; check that the "
        f"server runs, that host and port are right, and that TCP is let through{note}"
    )


def _no_way_through(
    target: Target, error: Exception, deadline: Deadline, proxy: Proxy
) -> FlashTransportError:
    if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
        text = f"{_body_of(error)}; the connection went through the proxy {proxy}"
        return _BY_STATUS[error.response.status_code](target, text)
    is_silent = isinstance(error, TimeoutError)
    reason = "no answer" if is_silent else shown(str(error))
    message = (
        f"cannot connect to {target} through the proxy {proxy} within {deadline}: {reason}; "
        f"to connect directly, put {target.host} into no_proxy or unset {proxy.variable}"
    )
    return Timeout(message) if is_silent else Disconnected(message)


def _body_of(error: InvalidStatus) -> str:
    body = (error.response.body or b"").decode(errors="replace").strip()
    return shown(body) or f"HTTP {error.response.status_code}"


def _refused(target: Target, text: str) -> FlashTransportError:
    return AuthenticationFailed(f"{target} refused the api key: {text}")


def _not_ready(_target: Target, text: str) -> FlashTransportError:
    return ServerError("not_ready", text.removeprefix("not_ready: "))


_BY_STATUS: dict[int, Callable[[Target, str], FlashTransportError]] = {
    401: _refused,
    403: _refused,
    503: _not_ready,
}

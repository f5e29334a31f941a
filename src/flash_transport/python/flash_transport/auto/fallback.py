"""What the fall-back may be, so that it loses no trust and no secret. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

__all__ = ["Fallback", "fallback_port", "fallback_to", "is_loopback"]

PORTS = {5555: 8000, 5556: 8002}
"""The WebSocket port beside each QUIC port: the action slot's and the planner's."""


@dataclass(frozen=True)
class Fallback:
    """The ways to try when QUIC does not get through.

    Attributes:
        encrypted: the URI over TLS; always tried first.
        plain: the URI without encryption, for a server that has no TLS; None where that is not
            allowed.
        why_not_plain: why it is not allowed; empty if it is.
    """

    encrypted: str
    plain: str | None
    why_not_plain: str = ""


def fallback_port(port: int, websocket_port: int | None) -> int | None:
    """The server's WebSocket port.

    Args:
        port: its QUIC port.
        websocket_port: as the user gave it; None: the one that belongs to `port`.

    Returns:
        None where it cannot be known: another server may listen on the usual one.
    """
    return PORTS.get(port) if websocket_port is None else websocket_port


def fallback_to(
    host: str, port: int, *, is_authenticated: bool, has_key: bool, is_insecure_allowed: bool
) -> Fallback:
    """The ways to a server's WebSocket port.

    Without encryption nobody verifies the server, and everybody on the way reads the key. So that
    is a way only where QUIC would not verify the server either, and where there is no key or no
    network, unless the user allows it.

    Args:
        host: name or address.
        port: its WebSocket port.
        is_authenticated: whether QUIC verifies the server, by a pin, an authority or known servers.
        has_key: whether an api key is sent.
        is_insecure_allowed: the user allows it.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    encrypted, plain = f"wss://{address}", f"ws://{address}"
    if is_insecure_allowed:
        return Fallback(encrypted, plain)
    if is_authenticated:
        return Fallback(encrypted, None, "the server could not be verified")
    if has_key and not is_loopback(host):
        return Fallback(encrypted, None, "the api key would be sent in plain text")
    return Fallback(encrypted, plain)


def is_loopback(host: str) -> bool:
    """Whether a host is this computer, by its name or address."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # "127.0.0.1.example.com" is a name like any other
        return False

"""The address that a server listens on, in the forms that people write. Pure."""

from __future__ import annotations

import ipaddress
import re


def listen_address(text: str) -> str:
    """The address or host name that `text` means; `[::1]` is `::1`.

    Raises:
        ValueError: it is neither; says what to write.
    """
    scheme, separator, rest = text.partition("://")
    if separator:
        raise ValueError(f"must be an address, write {rest!r:.80} without {scheme[:20]}://")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_ip(bare):
        if bare != text and ":" not in bare:
            raise ValueError(f"brackets are for IPv6, write {bare!r}")
        return bare
    host, _, port = text.rpartition(":")
    if port.isdecimal() and (_is_ip(host.strip("[]")) or _NAME.fullmatch(host)):
        raise ValueError(
            f"holds a port, write {host.strip('[]')!r} and the port {port} as websocket_port or "
            "quic_port of action_transport or planner_transport"
        )
    if text == "*":
        raise ValueError("must be an address, write '0.0.0.0' (IPv4) or '::' (IPv6 and IPv4)")
    if not _NAME.fullmatch(text) or len(text) > _LONGEST_NAME or _NUMBERS.fullmatch(text):
        raise ValueError(f"must be an address of this machine or a host name, got {text!r:.80}")
    return text


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def with_port(host: str, port: int) -> str:
    """`host:port`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)
_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)
"""Looks like IPv4 and is none: the system accepts `127.1`, QUIC does not."""
_LONGEST_NAME = 253
"""Characters of a host name, RFC 1035 section 2.3.4."""

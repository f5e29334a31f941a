"""The forms in which users name a server: `gpu`, `10.0.0.5:5555`, `[::1]:5555`. Pure.

`tests/data/hosts.json` lists accepted and refused forms; the tests check this module and the
compiled half (`link/address.rs`) against it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from flash_transport.outside_text import quoted, shown

__all__ = ["Address", "is_ip_literal", "parse_address"]

MAX_NAME_CHARS = 253
MAX_LABEL_CHARS = 63
"""Limits of names and labels: RFC 1035, section 2.3.4."""


@dataclass(frozen=True)
class Address:
    """Where a server is.

    Attributes:
        host: a name, an IPv4 address, or an IPv6 address without brackets.
        port: None where the user left it to the transport.
    """

    host: str
    port: int | None

    def with_default(self, port: int) -> tuple[str, int]:
        """Host and port, with the transport's port where the user named none."""
        return self.host, port if self.port is None else self.port


def parse_address(host: str, port: int | None = None) -> Address:
    """A server's host and port.

    Args:
        host: a name or an address, with or without `:port`; brackets around IPv6 addresses are
            needed only before a port.
        port: the port as an argument of its own; None: the one in `host`, if it holds one.

    Raises:
        ValueError: says what is wrong with the host or port, and what to write.
    """
    if not isinstance(host, str):
        raise ValueError(f"host is {type(host).__name__}, expected text such as 10.0.0.5")
    if port is not None:
        _check_port(port, f"port is {port!r}")
    _check_characters(host)
    name, port_text = _split(host)
    own_port = None if port_text is None else _parse_port(host, port_text)
    if port is not None and own_port is not None and own_port != port:
        raise ValueError(
            f"host {quoted(host)} holds port {own_port}, but port is {port}; give the port once"
        )
    _check_name(host, name)
    return Address(name, port if own_port is None else own_port)


def is_ip_literal(host: str) -> bool:
    """Whether a parsed host is an address and not a name."""
    return _ip_of(host) is not None


def _check_characters(host: str) -> None:
    if "@" in host:
        # the text before it may be a password
        raise ValueError("host holds '@'; write the name or the address alone, without a user")
    for char in host:
        if char.isspace() and (char == "\u00a0" or char.isprintable()):
            _refuse(host, "holds a space; write it without")
        if not char.isprintable():
            _refuse(host, "holds a control character; write a name or an address")
    scheme, separator, _ = host.partition("://")
    if separator:
        _refuse(host, f"is a URL; write the host without {shown(scheme, 20)}://")
    if "/" in host:
        _refuse(host, "holds a path; write the name or the address alone")


def _split(host: str) -> tuple[str, str | None]:
    """The name, without brackets, and the text of the port."""
    if "[" in host or "]" in host:
        match = re.fullmatch(r"\[([^][]*)\](?::(.*))?", host)
        if match is None or not _is_ipv6(match[1]):
            _refuse(host, _BAD_IPV6)
        return match[1], match[2]
    if host.count(":") > 1:
        if not _is_ipv6(host):
            _refuse(host, _BAD_IPV6)
        return host, None
    name, separator, port = host.partition(":")
    return name, port if separator else None


def _parse_port(host: str, text: str) -> int:
    # int() accepts signs, underscores and the digits of every script
    number = int(text[-20:]) if text.isascii() and text.isdigit() else 0
    what = f"the port in host {quoted(host)} is {quoted(text, 20)}"
    _check_port(number if len(text) <= 20 else 0, what)
    return number


def _check_port(port: Any, what: str) -> None:
    is_number = isinstance(port, int) and not isinstance(port, bool)
    if not (is_number and 1 <= port <= 65535):
        raise ValueError(f"{what}, expected a whole number from 1 to 65535")


def _check_name(host: str, name: str) -> None:
    if not name:
        _refuse(host, "is empty; write the server's name or address")
    address = _ip_of(name)
    if address is not None:
        _check_address(host, address)
        return
    labels = name.removesuffix(".").split(".")
    if _IPV4_NUMBER.fullmatch(labels[-1]):
        _refuse(host, "is no IPv4 address; write four numbers from 0 to 255, such as 10.0.0.5")
    for char in name:
        if not (char.isalnum() or char in "-_."):
            _refuse(host, f"holds '{char}'; write one name or address")
    if not all(labels):
        _refuse(host, "has dots with nothing between them")
    if max(map(len, labels)) > MAX_LABEL_CHARS or len(name) > MAX_NAME_CHARS:
        _refuse(
            host,
            f"is too long: a name has at most {MAX_NAME_CHARS} characters, and "
            f"{MAX_LABEL_CHARS} between two dots",
        )


def _check_address(host: str, address: _Ip) -> None:
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_unspecified:
        _refuse(
            host,
            "is what a server listens on, to be reached by every address of its machine; write "
            "one of those, or 127.0.0.1 for a server on this machine",
        )
    if address.is_multicast or str(address) == "255.255.255.255":
        _refuse(host, "is an address of many machines; write the address of one server")


def _is_ipv6(text: str) -> bool:
    return isinstance(_ip_of(text), ipaddress.IPv6Address)


def _ip_of(text: str) -> _Ip | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _refuse(host: str, reason: str) -> NoReturn:
    raise ValueError(f"host {quoted(host)} {reason}")


_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_IPV4_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"""A last label that makes a resolver take the name for an IPv4 address (WHATWG URL, 3.5)."""
_BAD_IPV6 = "is no IPv6 address; write one such as ::1, or [::1]:5555 with a port"

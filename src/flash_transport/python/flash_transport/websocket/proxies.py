"""Which proxy, if any, the environment names for a server. Pure.

A robot's server is nearly always in its own network, and proxies are for public addresses: the
client connects to other addresses directly, whatever the environment says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from flash_transport.address import is_ip_literal
from flash_transport.outside_text import shown

__all__ = ["Proxy", "is_local_name", "is_public", "proxy_for"]


@dataclass(frozen=True)
class Proxy:
    """A proxy that the environment names.

    Attributes:
        url: from the environment; may hold a password.
        variable: the name of the environment variable.
    """

    url: str = field(repr=False)
    variable: str

    @property
    def problem(self) -> str | None:
        """Why this is no valid proxy; None if it is one."""
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            return "is no URL"
        if parts.scheme not in _SCHEMES:
            return f"is no URL of the schemes {', '.join(_SCHEMES)}"
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            return "is no URL of a scheme, a host and a port alone"
        if parts.username is not None and parts.password is None:
            return "holds a user without a password"
        return None

    def __str__(self) -> str:
        """For messages: without user and password."""
        try:
            parts = urlsplit(self.url)
            where = parts.netloc.rpartition("@")[2]
        except ValueError:
            where = ""
        return f"{shown(where)} ({self.variable})" if where else self.variable


def proxy_for(
    host: str, port: int, *, is_secure: bool, environment: Mapping[str, str]
) -> Proxy | None:
    """The proxy for a server, if the environment names one and `no_proxy` does not exempt it.

    Reads the variables in the order of `websockets`, then `all_proxy`. The lower-case form has
    precedence; if it is empty, it disables the upper-case form.

    Args:
        host: name or address, without brackets.
        port: the server's.
        is_secure: whether over TLS: `http_proxy` is for connections without.
        environment: `os.environ`.
    """
    names = _FOR_WSS if is_secure else _FOR_WS
    for name in names:
        variable = name if name in environment else name.upper()
        url = environment.get(variable, "").strip()
        if url:
            return (
                None if _is_exempt(host, port, environment) else Proxy(_normal(name, url), variable)
            )
    return None


def is_local_name(name: str) -> bool:
    """Whether a host's name belongs to this computer or its network (RFC 6761, RFC 6762)."""
    labels = name.lower().removesuffix(".").split(".")
    return labels[-1] in ("localhost", "local")


def is_public(addresses: Iterable[str]) -> bool:
    """Whether any of the addresses is reached through the Internet.

    Not public are loopback, private and link-local addresses, and those of RFC 6598, which VPNs
    such as Tailscale use.
    """
    return any(ipaddress.ip_address(address).is_global for address in addresses)


def _normal(name: str, url: str) -> str:
    if "://" not in url:
        return f"{'socks5h' if name == 'socks_proxy' else 'http'}://{url}"
    if name == "socks_proxy" and url.startswith("http://"):
        return "socks5h" + url.removeprefix("http")
    return url


def _is_exempt(host: str, port: int, environment: Mapping[str, str]) -> bool:
    text = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    return any(_matches(entry.strip().lower(), host.lower(), port) for entry in text.split(","))


def _matches(entry: str, host: str, port: int) -> bool:
    """`*`, a name and its subdomains, an address, or a network; all but `*` may have a `:port`."""
    if entry in ("", "*"):
        return entry == "*"
    if is_ip_literal(host):
        return _is_in_network(entry, host) or _is_in_network(_without_port(entry, port), host)
    entry = _without_port(entry, port).removeprefix("*").removeprefix(".")
    name = host.removesuffix(".")
    return bool(entry) and (name == entry or name.endswith(f".{entry}"))


def _without_port(entry: str, port: int) -> str:
    return entry.removesuffix(f":{port}").removeprefix("[").removesuffix("]")


def _is_in_network(entry: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]) in ipaddress.ip_network(
            entry.removeprefix("[").removesuffix("]"), strict=False
        )
    except ValueError:
        return False


_FOR_WSS = ("wss_proxy", "socks_proxy", "https_proxy", "all_proxy")
_FOR_WS = ("ws_proxy", "socks_proxy", "https_proxy", "http_proxy", "all_proxy")
_SCHEMES = ("http", "https", "socks5h", "socks5", "socks4a", "socks4")

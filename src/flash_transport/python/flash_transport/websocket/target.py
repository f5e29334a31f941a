"""The server of a WebSocket client: the forms of openpi's client, and more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flash_transport.address import parse_address
from flash_transport.outside_text import quoted

__all__ = ["Target", "parse_target"]

DEFAULT_PORT = 8000
"""The port of openpi's server."""
SCHEME_PORTS = {"ws": 80, "wss": 443}
"""Default ports: RFC 6455, section 3."""


@dataclass(frozen=True)
class Target:
    """Where to connect.

    Attributes:
        host: a name or an address, without brackets.
        port: TCP port.
        is_secure: whether over TLS.
        path: path and query of the URI, or empty.
    """

    host: str
    port: int
    is_secure: bool = False
    path: str = ""

    @property
    def uri(self) -> str:
        """The whole URI, for the handshake; without the zone of a link-local address."""
        return f"{self._origin(self.host.partition('%')[0])}{self.path}"

    @property
    def name(self) -> str:
        """Host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        """For messages: a query may hold a secret."""
        path, has_query, _ = self.path.partition("?")
        return f"{self._origin(self.host)}{path}{'?…' if has_query else ''}"

    def _origin(self, host: str) -> str:
        host = f"[{host}]" if ":" in host else host
        return f"{'wss' if self.is_secure else 'ws'}://{host}:{self.port}"


def parse_target(host: str, port: int | None) -> Target:
    """A server's name or address, or its URI (`wss://host:port/path`).

    Args:
        host: a form of `parse_address`, or a URI.
        port: None: the one in `host`; else 8000, or the one of the URI's scheme.

    Raises:
        ValueError: says what is wrong and what to write.
    """
    scheme, has_scheme, rest = host.partition("://") if isinstance(host, str) else ("", "", "")
    if not has_scheme:
        name, number = parse_address(host, port).with_default(DEFAULT_PORT)
        return Target(name, number)
    scheme = scheme.lower()
    if scheme not in SCHEME_PORTS:
        raise ValueError(
            f"host is a URI of the scheme {quoted(scheme, 20)}; "
            "write ws:// or wss://, or a name or address alone"
        )
    authority, path = _split(rest)
    name, number = parse_address(authority, port).with_default(SCHEME_PORTS[scheme])
    _check_path(path)
    return Target(name, number, scheme == "wss", path)


def _split(rest: str) -> tuple[str, str]:
    """Authority and path; a path that is only a query gets its slash."""
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    path = rest[end:]
    return rest[:end], path if path[:1] in ("", "/") else f"/{path}"


def _check_path(path: str) -> None:
    if "#" in path:
        raise ValueError("host is a URI with a fragment; write it without # and what follows")
    if not path.isprintable() or " " in path:
        raise ValueError(
            f"path {quoted(path.partition('?')[0])} of the URI holds a space or a control "
            "character; write it percent-encoded"
        )

"""How a command reaches a server: its options, the key, and whether the server is verified."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from flash_transport import PolicyClient

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

Tell = Callable[[str, str], None]
"""Takes one line of a report: its label and its text."""

WEBSOCKET_PORT = 8000

LABEL = 14
"""Width of the labels in front of a report's lines."""

ApiKeyFile = Annotated[
    Path | None, typer.Option(help="A file that holds the API key.", metavar="<path>")
]
ServerFingerprint = Annotated[
    str | None, typer.Option(help="SHA-256 of the server's certificate, for QUIC and wss://.")
]
KnownServers = Annotated[
    Path | None,
    typer.Option(help="A file of fingerprints, trusted on first use.", metavar="<path>"),
]


Relay = Annotated[
    str | None,
    typer.Option(
        help="HOST or HOST:PORT of a relay, at which the server has its argument as name.",
        metavar="<address>",
    ),
]
RelayTokenFile = Annotated[
    Path | None, typer.Option(help="A file with the relay's token for it.", metavar="<path>")
]


class Way(enum.StrEnum):
    """A transport, as people call it."""

    QUIC = "QUIC"
    WEBSOCKET = "WebSocket"
    UNIX = "unix socket"


@dataclass(frozen=True)
class ServerLink:
    """How to reach a server, and how to know it.

    Attributes:
        host: name, address, URI, or `unix:` and a path.
        port: None: the transport's own.
        api_key: what the server is told.
        server_fingerprint: of its certificate.
        known_servers: file of fingerprints.
        connect_timeout: for connecting, and for a server that is not ready, s.
        relay: at which `host` is the server's name, over QUIC.
        relay_token_file: holds the relay's token for that name.
    """

    host: str
    port: int | None
    api_key: str | None = None
    server_fingerprint: str | None = None
    known_servers: Path | None = None
    connect_timeout: float = 5.0
    relay: str | None = None
    relay_token_file: Path | None = None

    def connect(self, way: Way) -> PolicyClient:
        """A client of its own session, over this transport.

        Raises:
            FlashTransportError: the server cannot be reached.
            ValueError: an option is malformed.
        """
        # whole chunks are measured, whatever OPENPI_OPEN_LOOP_HORIZON says
        if way is Way.WEBSOCKET:
            from flash_transport import WebsocketPolicy

            return WebsocketPolicy(
                self.host,
                self.port,
                api_key=self.api_key,
                server_fingerprint=self.server_fingerprint,
                known_servers=self.known_servers,
                connect_timeout=self.connect_timeout,
                open_loop_horizon=0,
            )
        from flash_transport import FlashTransportPolicy

        return FlashTransportPolicy(
            self.host,
            self.port,
            api_key=self.api_key,
            server_fingerprint=self.server_fingerprint,
            known_servers=self.known_servers,
            connect_timeout=self.connect_timeout,
            open_loop_horizon=0,
            relay=self.relay,
            relay_token_file=self.relay_token_file,
        )

    def fall_back(self) -> PolicyClient:
        """A client over WebSocket, where QUIC does not connect; it is trusted no more than QUIC.

        Raises:
            FlashTransportError: the server cannot be reached, or not as safely.
            ValueError: an option is malformed.
        """
        if "://" in self.host:
            return self.connect(Way.WEBSOCKET)
        from flash_transport.address import parse_address
        from flash_transport.auto.fallback import PORTS, fallback_to
        from flash_transport.auto.websocket_side import open_websocket

        host, port = parse_address(self.host, self.port).with_default(WEBSOCKET_PORT)
        fallback = fallback_to(
            host,
            # a port that is usual for QUIC has its WebSocket beside it; another one is tried itself
            PORTS.get(port, port),
            is_authenticated=self.server_fingerprint is not None or self.known_servers is not None,
            has_key=self.api_key is not None,
            is_insecure_allowed=False,
        )
        trust = {
            "server_fingerprint": self.server_fingerprint,
            "known_servers": self.known_servers,
        }
        return open_websocket(
            fallback,
            trust=trust,
            server=f"{host}:{port}",
            session="openpi-flash",
            api_key=self.api_key,
            connect_timeout=self.connect_timeout,
        )

    def trust(self, way: Way, client: PolicyClient, warnings: str = "") -> str:
        """How the server of a client is verified; `warnings` are those of its transport."""
        if way is Way.UNIX:
            return ""
        if way is Way.WEBSOCKET and not getattr(client, "is_encrypted", False):
            return "none: not encrypted, and the server is not authenticated"
        # the transport names what a program passes
        return warnings.replace("server_fingerprint", "--server-fingerprint") or self._verified_by(
            way
        )

    def _verified_by(self, way: Way) -> str:
        if self.server_fingerprint is not None:
            return "the server's certificate has the given fingerprint"
        if self.known_servers is not None:
            return f"the server's certificate is the one in {self.known_servers}"
        if way is Way.WEBSOCKET:
            return "the server's certificate is signed by an authority of this system"
        return "none: the server is not authenticated"


def api_key_of(file: Path | None) -> str | None:
    """The API key: of the file, else of the environment; ends the command if it is no key."""
    import os

    from openpi_flash_server.config.files import key_file_warning, read_keys, user_path

    if file is None:
        return os.environ.get("OPENPI_FLASH_API_KEY") or None
    try:
        first, *others = read_keys(user_path(str(file)))
    except ValueError as error:
        end_with_usage(f"--api-key-file: {error}")
    if others:
        end_with_usage(f"--api-key-file: {file} holds {1 + len(others)} keys, not one")
    if warning := key_file_warning(user_path(str(file))):
        typer.echo(f"warning: --api-key-file: {warning}", err=True)
    return first


def on_this_machine(host: str) -> str:
    """The host of a local socket whose path may be given without `unix:`."""
    return host if host.startswith("unix:") else f"unix:{Path(host).absolute()}"


def describe(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and text of each entry of a server's metadata."""
    for key in _METADATA:
        if metadata.get(key) not in (None, ""):
            yield key, str(metadata[key])
    checkpoint = metadata.get("checkpoint")
    if isinstance(checkpoint, Mapping):
        yield "checkpoint", f"{checkpoint.get('name')} {checkpoint.get('digest')}"
    if "model" not in metadata:
        yield "metadata", f"names no model; its keys: {', '.join(sorted(metadata)) or 'none'}"


class TransportWarnings(logging.Handler):
    """Collects the transport's warnings while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the warning."""
        self._lines.append(record.getMessage())

    @property
    def text(self) -> str:
        """All of them, on one line."""
        return "; ".join(self._lines)

    def __enter__(self) -> TransportWarnings:
        logging.getLogger("flash_transport").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("flash_transport").removeHandler(self)


def say(label: str, text: str) -> None:
    """Prints one line of a report."""
    typer.echo(f"{label:{LABEL}}  {text}")


def end_with_usage(problem: str) -> NoReturn:
    """Ends the command: its command line cannot be used."""
    typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(EXIT_USAGE)


_METADATA = ("server_version", "model", "config", "robot", "action_horizon", "action_rate_hz")

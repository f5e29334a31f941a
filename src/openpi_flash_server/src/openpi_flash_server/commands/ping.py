"""`openpi-flash ping`: connects to a server, describes what it serves, and times its answers."""

from __future__ import annotations

import enum
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openpi_flash_server.commands.failure import one_line_errors

if TYPE_CHECKING:
    from flash_transport import PolicyClient

CALLS = 5
EXIT_UNREACHED = 1
EXIT_USAGE = 2

_LABEL = 14
_METADATA = ("server_version", "model", "config", "robot", "action_horizon", "action_rate_hz")


class Transport(enum.StrEnum):
    """How to reach the server."""

    AUTO = "auto"
    QUIC = "quic"
    WEBSOCKET = "websocket"


def ping(
    host: Annotated[
        str,
        typer.Argument(
            help="Name or address, as in 10.0.0.5 or [::1]:5555; unix:PATH for a local socket.",
            show_default=False,
        ),
    ],
    *,
    port: Annotated[
        int | None, typer.Option(help="Instead of 5555 (QUIC) or 8000 (WebSocket).")
    ] = None,
    transport: Annotated[
        Transport, typer.Option(help="auto is QUIC, and WebSocket if that does not answer.")
    ] = Transport.AUTO,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file that holds the API key.", metavar="<path>")
    ] = None,
    server_fingerprint: Annotated[
        str | None, typer.Option(help="SHA-256 of the server's certificate, for QUIC.")
    ] = None,
    known_servers: Annotated[
        Path | None,
        typer.Option(help="A file of fingerprints, trusted on first use.", metavar="<path>"),
    ] = None,
    robot: Annotated[
        str | None,
        typer.Option(help="Whose observations to send; else the one that the server names."),
    ] = None,
    robot_file: Annotated[
        list[Path] | None,
        typer.Option(help="A file that adds robots; may be given again.", metavar="<path>"),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for connecting, and for each call.")] = 5,
) -> None:
    """Connect to a server, and report what it serves and how fast it answers.

    The observations are black images and zeros: no robot moves. The API key is read from
    --api-key-file or OPENPI_FLASH_API_KEY.
    """
    api_key = _api_key(api_key_file)
    with one_line_errors():
        from openpi_flash_models.config.robot_file import add_robot_file

        for file in robot_file or []:
            add_robot_file(file)

    def quic() -> PolicyClient:
        from flash_transport import FlashTransportPolicy

        return FlashTransportPolicy(
            host,
            port,
            api_key=api_key,
            server_fingerprint=server_fingerprint,
            known_servers=known_servers,
            connect_timeout=timeout,
        )

    def websocket() -> PolicyClient:
        from flash_transport import WebsocketPolicy

        return WebsocketPolicy(host, port, api_key=api_key, connect_timeout=timeout)

    is_local = host.startswith("unix:")
    ways: dict[str, Callable[[], PolicyClient]] = {}
    if transport is not Transport.WEBSOCKET:
        ways["unix socket" if is_local else "QUIC"] = quic
    if transport is Transport.WEBSOCKET or (transport is Transport.AUTO and not is_local):
        ways["WebSocket"] = websocket
    trust = _trust(server_fingerprint, known_servers)
    if not any(_try(name, connect, trust, robot, timeout) for name, connect in ways.items()):
        raise typer.Exit(EXIT_UNREACHED)


def _try(
    name: str, connect: Callable[[], PolicyClient], trust: str, robot: str | None, timeout: float
) -> bool:
    """Connects over one transport and reports; returns whether every call was answered."""
    from flash_transport import FlashTransportError

    warnings = _Warnings()
    logging.getLogger("flash_transport").addHandler(warnings)
    started = time.perf_counter()
    try:
        with connect() as client:
            metadata = client.get_server_metadata()
            connected = (time.perf_counter() - started) * 1000
            _say(name, f"connected in {connected:.1f} ms")
            if name == "QUIC":
                _say("trust", warnings.text or trust)
            elif name == "WebSocket":
                _say("trust", "none: not encrypted, and the server is not verified")
            for line in describe(metadata):
                _say(*line)
            _call(client, metadata, robot, timeout)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    except (FlashTransportError, OSError) as error:
        _say(name, f"{type(error).__name__}: {error}")
        return False
    finally:
        logging.getLogger("flash_transport").removeHandler(warnings)
    return True


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


def observation_of(robot_name: str) -> dict[str, Any]:
    """A request of the robot with black images and zeros.

    Raises:
        InferenceConfigError: no such robot is known here.
    """
    from openpi_flash_models.robots import get_robot

    return get_robot(robot_name).example_observation("ping") | {"seed": 0}


def _call(
    client: PolicyClient, metadata: Mapping[str, Any], robot: str | None, timeout: float
) -> None:
    from openpi_flash_models.errors import InferenceConfigError

    name = robot or str(metadata.get("robot", ""))
    if not name:
        _say("calls", "none: the server names no robot; name one with --robot")
        return
    try:
        # the null policy ignores the observation
        observation = {"prompt": "ping"} if name == "null" else observation_of(name)
    except InferenceConfigError as error:
        _say("calls", f"none: {error}; add it with --robot-file")
        return
    totals, timings = [], []
    for _ in range(CALLS):
        started = time.perf_counter()
        answer = client.infer(observation, timeout)
        totals.append((time.perf_counter() - started) * 1000)
        timings.append(answer.get("server_timing", {}))
    _say("calls", f"{CALLS} answered, {_spread(totals)}")
    for key in ("queue_ms", "infer_ms"):
        known = [float(timing[key]) for timing in timings if key in timing]
        if known:
            _say(key.removesuffix("_ms"), _spread(known))


def _spread(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"min {min(values):.1f} ms, median {middle:.1f} ms, max {max(values):.1f} ms"


def _trust(server_fingerprint: str | None, known_servers: Path | None) -> str:
    if server_fingerprint is not None:
        return "the server's certificate has the given fingerprint"
    if known_servers is not None:
        return f"the server's certificate is the one in {known_servers}"
    return "none: the server is not verified"


def _api_key(file: Path | None) -> str | None:
    import os

    from openpi_flash_server.config.files import read_keys, user_path

    if file is None:
        return os.environ.get("OPENPI_FLASH_API_KEY") or None
    try:
        first, *others = read_keys(user_path(str(file)))
    except ValueError as error:
        typer.echo(f"error: --api-key-file: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    if others:
        typer.echo(f"error: --api-key-file: {file} holds {1 + len(others)} keys, not one", err=True)
        raise typer.Exit(EXIT_USAGE)
    return first


class _Warnings(logging.Handler):
    """Collects the transport's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    @property
    def text(self) -> str:
        return "; ".join(self._lines)


def _say(label: str, text: str) -> None:
    typer.echo(f"{label:{_LABEL}}  {text}")

"""`openpi-flash ping`: connects to a server, describes what it serves, and times its answers."""

from __future__ import annotations

import enum
import functools
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openpi_flash_server.commands.probe_options import Robot, RobotFiles, add_robot_files
from openpi_flash_server.commands.server_link import (
    EXIT_FAILED,
    ApiKeyFile,
    KnownServers,
    Relay,
    RelayTokenFile,
    ServerFingerprint,
    ServerLink,
    TransportWarnings,
    Way,
    api_key_of,
    describe,
    end_with_usage,
    say,
)

if TYPE_CHECKING:
    from flash_transport import PolicyClient

CALLS = 5


class Transport(enum.StrEnum):
    """How to reach the server."""

    AUTO = "auto"
    QUIC = "quic"
    WEBSOCKET = "websocket"


def ping(
    host: Annotated[
        str,
        typer.Argument(
            help="Name or address, as in 10.0.0.5 or [::1]:5555; unix:PATH for a local socket; "
            "with --relay its name there.",
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
    api_key_file: ApiKeyFile = None,
    server_fingerprint: ServerFingerprint = None,
    known_servers: KnownServers = None,
    relay: Relay = None,
    relay_token_file: RelayTokenFile = None,
    robot: Robot = None,
    robot_file: RobotFiles = None,
    timeout: Annotated[float, typer.Option(help="Seconds for connecting, and for each call.")] = 5,
) -> None:
    """Connect to a server, and report what it serves and how fast it answers.

    The observations are black images and zeros: no robot moves. The API key is read from
    --api-key-file or OPENPI_FLASH_API_KEY.
    """
    api_key = api_key_of(api_key_file)
    add_robot_files(robot_file)
    link = ServerLink(
        host,
        port,
        api_key,
        server_fingerprint,
        known_servers,
        timeout,
        relay=relay,
        relay_token_file=relay_token_file,
    )
    if relay is not None and transport is Transport.WEBSOCKET:
        end_with_usage("--relay: a relay carries QUIC, not WebSocket; leave --transport out")
    is_local = host.startswith("unix:")
    ways = []
    if transport is not Transport.WEBSOCKET:
        ways.append(Way.UNIX if is_local else Way.QUIC)
    if transport is Transport.WEBSOCKET or (
        transport is Transport.AUTO and not is_local and relay is None
    ):
        ways.append(Way.WEBSOCKET)
    is_choice = len(ways) > 1
    if not any(
        _try(link, way, robot, timeout, is_fallback=is_choice and way is Way.WEBSOCKET)
        for way in ways
    ):
        raise typer.Exit(EXIT_FAILED)


def _try(
    link: ServerLink, way: Way, robot: str | None, timeout: float, *, is_fallback: bool
) -> bool:
    """Connects over one transport and reports; returns whether every call was answered."""
    from flash_transport import FlashTransportError

    started = time.perf_counter()
    try:
        connect = link.fall_back if is_fallback else functools.partial(link.connect, way)
        with TransportWarnings() as warnings, connect() as client:
            metadata = client.get_server_metadata()
            connected = (time.perf_counter() - started) * 1000
            say(way, f"connected in {connected:.1f} ms")
            if trust := link.trust(way, client, warnings.text):
                say("trust", trust)
            for line in describe(metadata):
                say(*line)
            _call(client, metadata, robot, timeout)
    except ValueError as error:
        end_with_usage(str(error))
    except (FlashTransportError, OSError) as error:
        say(way, f"{type(error).__name__}: {error}")
        return False
    return True


def _call(
    client: PolicyClient, metadata: Mapping[str, Any], robot: str | None, timeout: float
) -> None:
    from openpi_flash_server.probe.observation import NoObservationError, observation_for

    try:
        observation = observation_for(metadata, robot)
    except NoObservationError as error:
        say("calls", f"none: {error}")
        return
    totals, timings = [], []
    for _ in range(CALLS):
        started = time.perf_counter()
        answer = client.infer(observation, timeout)
        totals.append((time.perf_counter() - started) * 1000)
        timings.append(answer.get("server_timing", {}))
    say("calls", f"{CALLS} answered, {_spread(totals)}")
    for key in ("queue_ms", "infer_ms"):
        known = [float(timing[key]) for timing in timings if key in timing]
        if known:
            say(key.removesuffix("_ms"), _spread(known))


def _spread(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"min {min(values):.1f} ms, median {middle:.1f} ms, max {max(values):.1f} ms"

"""`openpi-flash load`: how a server answers many clients at once, at a rate or at several."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openpi_flash_server.commands.probe_options import (
    PROMPT,
    AsJson,
    CallTimeout,
    Mode,
    Prompt,
    RequestMode,
    Robot,
    RobotFiles,
    Wait,
    add_robot_files,
)
from openpi_flash_server.commands.server_link import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    ApiKeyFile,
    KnownServers,
    ServerFingerprint,
    ServerLink,
    TransportWarnings,
    Way,
    api_key_of,
    end_with_usage,
    on_this_machine,
    say,
)

if TYPE_CHECKING:
    from openpi_flash_server.probe.load_tally import LoadRow

COLUMNS = (
    ("rate/Hz", 8),
    ("sent", 7),
    ("ok/s", 8),
    ("p50/ms", 9),
    ("p90/ms", 9),
    ("p99/ms", 9),
    ("max/ms", 9),
    ("superseded", 12),
    ("timeout", 9),
    ("failed", 8),
)


class Transport(enum.StrEnum):
    """How the clients reach the server."""

    QUIC = "quic"
    WS = "ws"
    UNIX = "unix"


_WAYS = {Transport.QUIC: Way.QUIC, Transport.WS: Way.WEBSOCKET, Transport.UNIX: Way.UNIX}


def load(
    host: Annotated[
        str,
        typer.Argument(
            help="Name or address, as in 10.0.0.5 or [::1]:5555; unix:PATH for a local socket.",
            show_default=False,
        ),
    ],
    *,
    clients: Annotated[int, typer.Option(min=1, help="How many clients, each a session.")] = 4,
    rate: Annotated[
        str,
        typer.Option(
            help="Requests per second of each client; several, as in 5,10,20, are tried one after "
            "the other.",
            metavar="<Hz>",
        ),
    ] = "10",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to send at each rate.")] = 10,
    transport: Annotated[Transport, typer.Option(help="How to reach the server.")] = Transport.QUIC,
    port: Annotated[int | None, typer.Option(help="Instead of 5555 (quic) or 8000 (ws).")] = None,
    mode: RequestMode = None,
    prompt: Prompt = PROMPT,
    robot: Robot = None,
    robot_file: RobotFiles = None,
    api_key_file: ApiKeyFile = None,
    server_fingerprint: ServerFingerprint = None,
    known_servers: KnownServers = None,
    timeout: CallTimeout = 10,
    wait: Wait = 10,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw latency against rate; needs matplotlib.", metavar="<file.png>"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let clients send at a fixed rate, as robots do, and report how they were answered.

    A client does not wait for an answer before it sends the next request; a request that still
    waits then is superseded. Latency counts from when a request was due. The observations are black
    images and zeros: no robot moves. Exits with 1 if requests fail.
    """
    rates = _rates(rate)
    if plot is not None:
        _check_plot(plot)
    api_key = api_key_of(api_key_file)
    add_robot_files(robot_file)
    way = Way.UNIX if host.startswith("unix:") else _WAYS[transport]
    if way is Way.UNIX:
        host = on_this_machine(host)
    link = ServerLink(host, port, api_key, server_fingerprint, known_servers, wait)
    rows, metadata, interrupted = _run(
        link,
        way,
        clients=clients,
        rates=rates,
        seconds=seconds,
        robot=robot,
        prompt=prompt,
        mode=mode,
        timeout=timeout,
        quiet=as_json,
    )
    if as_json:
        result = {
            "server": host,
            "transport": str(way),
            "model": metadata.get("model"),
            "interrupted": interrupted,
            "rows": [row.as_json() for row in rows],
        }
        typer.echo(json.dumps(result, indent=2))
    if plot is not None and rows:
        from openpi_flash_server.commands.load_plot import draw

        draw(rows, plot, title=f"{metadata.get('model', host)}, {clients} clients, {way}")
        if not as_json:
            say("plot", str(plot))
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_FAILED if any(row.has_errors for row in rows) else 0)


def _run(
    link: ServerLink,
    way: Way,
    *,
    clients: int,
    rates: Sequence[float],
    seconds: float,
    robot: str | None,
    prompt: str,
    mode: Mode | None,
    timeout: float,
    quiet: bool,
) -> tuple[list[LoadRow], Mapping[str, Any], bool]:
    """Connects and tries each rate; prints a row as soon as it is known, unless `quiet`."""
    from flash_transport import FlashTransportError
    from openpi_flash_server.probe.answer_check import problem_of
    from openpi_flash_server.probe.load_run import run_rate
    from openpi_flash_server.probe.observation import NoObservationError, observation_for

    rows: list[LoadRow] = []
    interrupted = False
    metadata: Mapping[str, Any] = {}
    try:
        with TransportWarnings(), contextlib.ExitStack() as stack:
            connected = [stack.enter_context(link.connect(way)) for _ in range(clients)]
            metadata = connected[0].get_server_metadata()
            observation = observation_for(metadata, robot, prompt)
            observation |= {} if mode is None else {"mode": str(mode)}
            check = functools.partial(
                problem_of, metadata=metadata, expects_actions=mode is not Mode.SUBTASK_ONLY
            )
            # compiles what the first call compiles, and opens every connection
            for client in connected:
                client.infer(observation, max(timeout, link.connect_timeout))
            if not quiet:
                _say_head(metadata, way, clients, seconds)
            for rate in rates:
                row, interrupted = run_rate(
                    connected,
                    observation,
                    rate_hz=rate,
                    seconds=seconds,
                    timeout=timeout,
                    problem_of=check,
                )
                rows.append(row)
                if not quiet:
                    _say_row(row)
                if interrupted:
                    break
    except KeyboardInterrupt:
        interrupted = True
    except ValueError as error:
        # malformed options, and a server whose requests are not known here
        if isinstance(error, NoObservationError):
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(EXIT_FAILED) from None
        end_with_usage(str(error))
    except (FlashTransportError, OSError) as error:
        typer.echo(f"error: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    if not quiet:
        _say_end(rows, interrupted)
    return rows, metadata, interrupted


def _say_head(metadata: Mapping[str, Any], way: Way, clients: int, seconds: float) -> None:
    model = metadata.get("model", "a server that names no model")
    typer.echo(f"{model} over {way}, {clients} clients, {seconds:g} s at each rate")
    typer.echo("".join(f"{name:>{width}}" for name, width in COLUMNS))


def _say_row(row: LoadRow) -> None:
    from openpi_flash_server.probe.load_tally import Outcome

    spread = row.latency_ms
    times = ["-"] * 4
    if spread is not None:
        times = [f"{ms:.1f}" for ms in (spread.p50, spread.p90, spread.p99, spread.max)]
    counts = (row.counts[o] for o in (Outcome.SUPERSEDED, Outcome.TIMEOUT, Outcome.FAILED))
    cells = (f"{row.rate_hz:g}", row.sent, f"{row.answered_per_s:.1f}", *times, *counts)
    typer.echo(
        "".join(f"{cell!s:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    )


def _say_end(rows: Sequence[LoadRow], interrupted: bool) -> None:
    if interrupted:
        typer.echo("interrupted: the last row is of the time until then" if rows else "interrupted")
    for row in rows:
        for error, times in row.errors.items():
            typer.echo(f"at {row.rate_hz:g} Hz, {times} times: {error}")
        if row.late_ms > _LATE_MS:
            typer.echo(
                f"at {row.rate_hz:g} Hz this machine sent one request in ten more than "
                f"{row.late_ms:.0f} ms late: it is too slow for so many, or busy"
            )


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate <= _FASTEST_HZ for rate in rates):
        end_with_usage(
            f"--rate {text}: expected numbers above 0, at most {_FASTEST_HZ}, as in 5,10,20"
        )
    return rates


def _check_plot(path: Path) -> None:
    """Ends the command before the measurement, if there can be no plot after it."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        end_with_usage("--plot needs matplotlib: pip install matplotlib")
    if not path.absolute().parent.is_dir():
        end_with_usage(f"--plot {path}: there is no directory {path.absolute().parent}")


_LATE_MS = 10.0
"""A delay that a busy machine's scheduler may cause."""

_FASTEST_HZ = 10_000

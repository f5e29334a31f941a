"""`openpi-flash replay`: sends recorded requests to a server again, and compares the answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openpi_flash_server.commands.ping import Transport
from openpi_flash_server.commands.server_link import (
    EXIT_FAILED,
    EXIT_USAGE,
    ApiKeyFile,
    KnownServers,
    ServerFingerprint,
    ServerLink,
    Way,
    api_key_of,
    end_with_usage,
    say,
)

if TYPE_CHECKING:
    from flash_transport import PolicyClient
    from openpi_flash_server.recording.comparison import ComparisonTally
    from openpi_flash_server.recording.reading import Recording
    from openpi_flash_server.recording.replay import ReplayReport


def replay(
    file: Annotated[Path, typer.Argument(help="The recording.", show_default=False)],
    *,
    server: Annotated[
        str,
        typer.Option(
            help="Name or address, as in 10.0.0.5 or [::1]:5555; unix:PATH for a local socket."
        ),
    ],
    port: Annotated[
        int | None, typer.Option(help="Instead of 5555 (QUIC) or 8000 (WebSocket).")
    ] = None,
    transport: Annotated[
        Transport, typer.Option(help="auto is QUIC, or the unix socket.")
    ] = Transport.AUTO,
    slot: Annotated[str, typer.Option(help="Whose requests to send.")] = "action",
    limit: Annotated[
        int | None, typer.Option(help="Send so many requests only.", min=1, show_default=False)
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(help="How much a number of the actions may differ, in its unit.", min=0.0),
    ] = 0.0,
    api_key_file: ApiKeyFile = None,
    server_fingerprint: ServerFingerprint = None,
    known_servers: KnownServers = None,
    timeout: Annotated[float, typer.Option(help="Seconds for connecting, and each call.")] = 30,
) -> None:
    """Send recorded requests to a server again, and compare its answers with the recorded ones.

    Requests with a seed or with noise must be answered bit for bit, or within --tolerance: else the
    exit code is 1. They are sent one by one, in gaps that robots leave.
    """
    from flash_transport import FlashTransportError

    recording = _read(file, slot)
    api_key = api_key_of(api_key_file)
    link = ServerLink(server, port, api_key, server_fingerprint, known_servers, timeout)
    try:
        with link.connect(_way(server, transport)) as client:
            report = _replay(client, recording, limit, tolerance, timeout)
            metadata = client.get_server_metadata()
    except ValueError as error:
        end_with_usage(str(error))
    except (FlashTransportError, OSError) as error:
        typer.echo(f"error: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    _say_models(recording.metadata, metadata)
    _say_report(report, [str(name) for name in metadata.get("action_names", ())])
    if not report.is_equal:
        raise typer.Exit(EXIT_FAILED)


def _read(file: Path, slot: str) -> Recording:
    from openpi_flash_server.recording.reading import RecordingError, read_recording

    try:
        recording = read_recording(file, slot=slot)
    except OSError as error:
        end_with_usage(f"{file}: {(error.strerror or str(error)).lower()}")
    except RecordingError as error:
        end_with_usage(str(error))
    if not recording.exchanges:
        typer.echo(f"error: {file} holds no requests of the slot {slot}", err=True)
        raise typer.Exit(EXIT_USAGE)
    cut = ", and ends in the middle" if recording.is_cut else ""
    say("file", f"{file}: {len(recording.exchanges)} requests{cut}")
    return recording


def _way(server: str, transport: Transport) -> Way:
    if transport is Transport.WEBSOCKET:
        return Way.WEBSOCKET
    return Way.UNIX if server.startswith("unix:") else Way.QUIC


def _replay(
    client: PolicyClient,
    recording: Recording,
    limit: int | None,
    tolerance: float,
    timeout: float,
) -> ReplayReport:
    from flash_transport import ServerError
    from openpi_flash_server.recording.replay import replay as send_again

    def ask(message: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return {"result": client.infer(dict(message), timeout)}
        except ServerError as error:
            return {"error": {"code": error.code, "message": error.message}}

    return send_again(recording.exchanges[:limit], ask, tolerance=tolerance)


def _say_models(recorded: Mapping[str, Any], served: Mapping[str, Any]) -> None:
    for label, metadata in (("recorded from", recorded), ("replayed to", served)):
        checkpoint = metadata.get("checkpoint")
        name = checkpoint.get("name") if isinstance(checkpoint, Mapping) else None
        digest = checkpoint.get("digest") if isinstance(checkpoint, Mapping) else None
        parts = [metadata.get("config"), metadata.get("model"), name, digest]
        say(label, " ".join(str(part) for part in parts if part) or "unknown")


def _say_report(report: ReplayReport, names: list[str]) -> None:
    typer.echo(f"{'':14}  {'answers':>9} {'equal':>9} {'close':>9} {'different':>9}  largest")
    for label, tally in (("with a seed", report.seeded), ("without", report.unseeded)):
        if tally.count:
            _say_tally(label, tally)
    for reason, count in sorted(report.skipped.items()):
        say("not sent", f"{count} {reason}")
    compared = report.seeded if report.seeded.count else report.unseeded
    if compared.columns is not None and compared.largest > 0:
        for index, largest in enumerate(compared.columns):
            name = names[index] if index < len(names) else f"action {index}"
            say(f"  {name}"[:14], f"{largest:.3g}")
    for number, reason in report.first_differences:
        say("different", f"request {number}: {reason}")
    if not report.seeded.count:
        say("note", "no request has a seed or noise: differences are not counted as failures")


def _say_tally(label: str, tally: ComparisonTally) -> None:
    from openpi_flash_server.recording.comparison import Verdict

    counts = " ".join(f"{tally.verdicts[verdict]:9}" for verdict in Verdict)
    typer.echo(f"{label:14}  {tally.count:9} {counts}  {tally.largest:.3g}")

"""`openpi-flash doctor`: what of this machine keeps a server from running well."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from openpi_flash_server.commands.config_option import DEFAULT_PATH, PATH_VARIABLE
from openpi_flash_server.commands.probe_options import AsJson

EXIT_FAILED = 1


def doctor(
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            help=f"The JSON configuration [default: {DEFAULT_PATH}, if it is there].",
            envvar=PATH_VARIABLE,
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine for serving: versions, GPU, ports, buffers, certificate, checkpoints.

    Also beside a server that runs. Starts nothing, loads no weights, shows no keys: the report may
    go into a bug report. Exits with 1 if something keeps a server from running.
    """
    from openpi_flash_server.doctor.checks import examine
    from openpi_flash_server.doctor.finding import Level, as_lines
    from openpi_flash_server.doctor.finding import as_json as report
    from openpi_flash_server.doctor.read_deployment import read_deployment
    from openpi_flash_server.doctor.read_machine import read_machine

    if config is None and DEFAULT_PATH.exists():
        config = DEFAULT_PATH
    findings = examine(read_machine(), read_deployment(config, os.environ))
    if as_json:
        typer.echo(json.dumps(report(findings), indent=2))
    else:
        for line in as_lines(findings):
            typer.echo(line)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(EXIT_FAILED)

"""`openpi-flash check-config`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from openpi_flash_server.commands.config_option import read_config


def check_config(
    path: Annotated[Path, typer.Argument(help="The JSON configuration.", show_default=False)],
) -> None:
    """Check a configuration as serve would read it, with the environment over it."""
    config = read_config(path)
    typer.echo(f"{path}: ok (mode={config.mode}, slots={config.slots})")
    for slot in config.slots:
        transport = config.transport(slot)
        typer.echo(
            f"  {slot}: {config.host}, WebSocket {transport.websocket_port}/tcp, "
            f"QUIC {transport.quic_port}/udp"
            + (f", unix:{transport.unix_socket_path}" if transport.unix_socket_path else "")
        )
    from openpi_flash_server.config.file import misspelt_variables

    for variable, likely in misspelt_variables(os.environ):
        typer.echo(f"  note: {variable} sets nothing, did you mean {likely}?")
    # not an error: a configuration is often checked on another machine than the one that serves
    for slot, settings in (("action", config.action), ("planner", config.planner)):
        directory = settings.checkpoint_dir if settings is not None else ""
        if "://" in directory:
            typer.echo(f"  note: {slot}.checkpoint_dir {directory} is downloaded if need be")
        elif directory and not (place := Path(directory).expanduser().absolute()).is_dir():
            typer.echo(f"  note: {slot}.checkpoint_dir {place} is not on this machine")

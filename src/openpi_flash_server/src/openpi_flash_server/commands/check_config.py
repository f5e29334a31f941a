"""`openpi-flash check-config`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpi_flash_server.commands.config_option import EXIT_CONFIG, read_config

if TYPE_CHECKING:
    from openpi_flash_server.config.action_settings import ActionSettings
    from openpi_flash_server.config.server_config import ServerConfig


def check_config(
    path: Annotated[Path, typer.Argument(help="The JSON configuration.", show_default=False)],
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints",
            help="Check the checkpoints too, without reading their weights.",
        ),
    ] = False,
) -> None:
    """Check a configuration as serve would read it, with the environment variables applied.

    Free ports and enough memory are checked only when serve starts.
    """
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
    try:
        config.certificate_dir()
    except ValueError as error:
        typer.echo(f"  error: state_dir: {error}")
        raise typer.Exit(EXIT_CONFIG) from None
    if config.action is not None and (missing := _missing_module(config.action, path)):
        typer.echo(f"  note: action.model_config_name: no module {missing} on this machine")
    if checkpoints:
        _check_checkpoints(config)
        return
    # not an error: a configuration is often checked on another machine
    for slot, settings in (("action", config.action), ("planner", config.planner)):
        directory = settings.checkpoint_dir if settings is not None else ""
        if "://" in directory:
            typer.echo(f"  note: {slot}.checkpoint_dir {directory} is downloaded if missing")
        elif directory and not (place := Path(directory).expanduser().absolute()).is_dir():
            typer.echo(f"  note: {slot}.checkpoint_dir {place} is not on this machine")


def _missing_module(action: ActionSettings, path: Path) -> str:
    """The package of a policy in Python that is not here; nothing of it is imported."""
    import importlib.util

    from openpi_flash_server.config.policy_name import python_name

    name = python_name(action.model_config_name)
    if name is None:
        return ""
    package = name.module.partition(".")[0]
    places = (path.absolute().parent, Path.cwd())
    is_here = any(
        (place / package).is_dir() or (place / f"{package}.py").is_file() for place in places
    )
    return "" if is_here or importlib.util.find_spec(package) is not None else package


def _check_checkpoints(config: ServerConfig) -> None:
    from openpi_flash_models.checkpoints.check import (
        check_planner_checkpoint,
        check_policy_checkpoint,
    )

    findings = []
    if config.action is not None and config.action.names_inference_config:
        findings += [
            ("action", finding)
            for finding in check_policy_checkpoint(
                config.action.model_config_name,
                config.action.checkpoint_dir,
                framework=config.action.framework,
                dtype=config.action.dtype,
                normalization=config.action.normalization,
                malformed_tokens=config.action.malformed_tokens,
            )
        ]
    if config.planner is not None:
        findings += [
            ("planner", finding)
            for finding in check_planner_checkpoint(config.planner.checkpoint_dir)
        ]
    for slot, finding in findings:
        typer.echo(f"  {slot}: {finding.severity}: {finding.text}")
    if any(finding.severity == "error" for _, finding in findings):
        raise typer.Exit(EXIT_CONFIG)

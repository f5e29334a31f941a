"""`openpi-flash serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openpi_flash_server.commands.config_option import DEFAULT_PATH, PATH_VARIABLE, read_config


def serve(
    config: Annotated[
        Path, typer.Option(help="The JSON configuration.", envvar=PATH_VARIABLE)
    ] = DEFAULT_PATH,
) -> None:
    """Serve the models that the configuration names, until SIGTERM or Ctrl-C."""
    settings = read_config(config)
    from openpi_flash_server import logs, serve

    logs.configure()
    logs.EventLogger(__name__).info("configuration read", file=config, mode=settings.mode)
    raise typer.Exit(serve.serve(settings))

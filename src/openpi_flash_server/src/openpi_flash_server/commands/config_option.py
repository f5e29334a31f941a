"""Reads the configuration for a command, and ends the command if it cannot be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openpi_flash_server.config.file import Flag
    from openpi_flash_server.config.server_config import ServerConfig

PATH_VARIABLE = "INFERENCE_CONFIG_PATH"
DEFAULT_PATH = Path("config.json")
EXIT_CONFIG = 2


def read_config(path: Path | None, flags: Sequence[Flag] = ()) -> ServerConfig:
    """The configuration at `path`; ends the command with one error if it cannot be used."""
    from openpi_flash_server.config.file import load_config
    from openpi_flash_server.config.problems import ConfigError

    try:
        return load_config(path, os.environ, flags)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None

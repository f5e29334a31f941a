"""How a command reads its configuration, and how it ends when that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openpi_flash_server.config import ServerConfig
    from openpi_flash_server.config_file import Flag

PATH_VARIABLE = "INFERENCE_CONFIG_PATH"
DEFAULT_PATH = Path("config.json")
EXIT_CONFIG = 2


def read_config(path: Path | None, flags: Sequence[Flag] = ()) -> ServerConfig:
    """The configuration at `path`; ends the command with one error if it cannot be used."""
    from openpi_flash_server.config_file import load_config
    from openpi_flash_server.config_problems import ConfigError

    try:
        return load_config(path, os.environ, flags)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None

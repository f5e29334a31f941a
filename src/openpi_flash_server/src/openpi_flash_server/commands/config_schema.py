"""`openpi-flash config schema`."""

from __future__ import annotations

import typer


def config_schema() -> None:
    """Print the JSON Schema of the configuration, with which an editor completes and checks it.

    Name it in the configuration: "$schema": "server_schema.json".
    """
    import json

    from openpi_flash_server.config.json_schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))

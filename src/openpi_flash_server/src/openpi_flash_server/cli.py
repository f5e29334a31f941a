"""The `openpi-flash` command: one file per sub-command, heavy imports inside them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer

from openpi_flash_server.commands.check_config import check_config
from openpi_flash_server.commands.config_schema import config_schema
from openpi_flash_server.commands.convert_checkpoint import convert_checkpoint
from openpi_flash_server.commands.doctor import doctor
from openpi_flash_server.commands.inspect_checkpoint import inspect_checkpoint
from openpi_flash_server.commands.load import load
from openpi_flash_server.commands.make_demo_checkpoint import make_demo_checkpoint
from openpi_flash_server.commands.ping import ping
from openpi_flash_server.commands.plan import plan
from openpi_flash_server.commands.prepare_checkpoint import (
    prepare_checkpoint,
    prepare_planner_checkpoint,
)
from openpi_flash_server.commands.reload import reload
from openpi_flash_server.commands.replay import replay
from openpi_flash_server.commands.route import route
from openpi_flash_server.commands.serve import serve
from openpi_flash_server.commands.test import run_test

app = typer.Typer(
    name="openpi-flash",
    help="Serves pi0-family policies to robots over QUIC and WebSocket.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from openpi_flash_server import __version__

        typer.echo(f"openpi-flash {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    del version


app.command("serve", short_help="Serve the models of a configuration.")(serve)
app.command("check-config", short_help="Check a configuration without serving.")(check_config)
config = typer.Typer(
    help="Check a configuration, or print its schema.", no_args_is_help=True, rich_markup_mode=None
)
config.command("check", short_help="Check a configuration without serving.")(check_config)
config.command("schema", short_help="Print the JSON Schema, for editors.")(config_schema)
app.add_typer(config, name="config")
app.command("doctor", short_help="Check this machine for serving.")(doctor)
app.command("reload", short_help="Serve another checkpoint without a restart.")(reload)
app.command("ping", short_help="Reach a server and time its answers.")(ping)
app.command("test", short_help="Test a server and time its answers.")(run_test)
app.command("load", short_help="Load a server with many clients at fixed rates.")(load)
app.command("plan", short_help="Say how many GPUs robots need.")(plan)
app.command("route", short_help="Share several servers among robots.")(route)
app.command("replay", short_help="Send recorded requests again and compare the answers.")(replay)
app.command("inspect-checkpoint", short_help="Say what a checkpoint is.")(inspect_checkpoint)
app.command("convert-checkpoint", short_help="Write a checkpoint in the other layout.")(
    convert_checkpoint
)
app.command("prepare-checkpoint", short_help="Fetch weights and statistics into one checkpoint.")(
    prepare_checkpoint
)
app.command("prepare-planner-checkpoint", short_help="Fetch and unpack a planner.")(
    prepare_planner_checkpoint
)
app.command("make-demo-checkpoint", short_help="Write a small untrained checkpoint.")(
    make_demo_checkpoint
)


def add_commands_of(packages: Iterable[EntryPoint], to: typer.Typer) -> None:
    """Adds the commands of other packages; one that cannot be imported keeps nobody from serving.

    Args:
        packages: entry points, each of a function that takes the command.
        to: the command.
    """
    for package in packages:
        try:
            add = package.load()
        except ImportError as error:
            typer.echo(
                f"warning: the commands of {package.value.partition('.')[0]} are missing: {error}",
                err=True,
            )
            continue
        add(to)


add_commands_of(entry_points(group="openpi_flash.commands"), app)

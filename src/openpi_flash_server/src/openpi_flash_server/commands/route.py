"""`openpi-flash route`: one address for robots, several servers behind it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpi_flash_server.commands.server_link import EXIT_FAILED, end_with_usage

if TYPE_CHECKING:
    from openpi_flash_server.routing.router import Router


def route(
    *,
    config: Annotated[
        Path,
        typer.Option(help="JSON: the servers, and where to listen.", show_default=False),
    ],
) -> None:
    """Give each robot the server with the least to do, and keep it there.

    A server that ends or is not ready gets no new robots; those that it sends away come back to
    another one. Each server needs an action_transport.quic_server_id.
    """
    from openpi_flash_server.logs import log_output
    from openpi_flash_server.routing.route_config import read_route_config
    from openpi_flash_server.routing.router import Router

    try:
        router = Router(read_route_config(config))
    except ValueError as error:
        end_with_usage(str(error))
    except OSError as error:
        end_with_usage(f"admin_key_file: {error}")
    log_output.configure()
    try:
        asyncio.run(_until_told(router))
    except OSError as error:
        typer.echo(f"error: cannot listen: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None


async def _until_told(router: Router) -> None:
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await router.start()
    typer.echo(f"Router ready (quic={router.quic_port}, websocket={router.websocket_port})")
    await told.wait()
    await router.close()

"""Ends a command that cannot draw, reach its policy or use its data, with one line of error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors about simulations, policies and datasets into one line and exit status 1."""
    from openpi_flash_training.commands.data_errors import one_line_data_errors
    from openpi_flash_training.evaluation.aloha_transfer_cube import AlohaUnavailableError
    from openpi_flash_training.evaluation.policy import PolicyFailedError
    from sim_robot.gl_backend import RenderingUnavailableError

    try:
        with one_line_data_errors():
            yield
    except (AlohaUnavailableError, PolicyFailedError, RenderingUnavailableError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None

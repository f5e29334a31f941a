"""Ends a command that cannot use its data, with one line of error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def one_line_data_errors() -> Iterator[None]:
    """Turn errors about recordings, datasets and configs into one line and exit status 1."""
    from openpi_flash_models.errors import InferenceConfigError
    from openpi_flash_training.episodes.error import DataError

    try:
        yield
    except (DataError, InferenceConfigError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None

"""Ends a command that cannot do its task, with one line of error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors about settings, data, checkpoints and files into one line and exit status 1."""
    from openpi_flash_models.errors import CheckpointError, DownloadError, InferenceConfigError
    from openpi_flash_training.episodes.error import DataError
    from openpi_flash_training.train.problem import SettingsError, TrainingError

    try:
        yield
    except (
        CheckpointError,
        DataError,
        DownloadError,
        InferenceConfigError,
        SettingsError,
        TrainingError,
    ) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        typer.echo(f"error: {where}{(error.strerror or str(error)).lower()}", err=True)
        raise typer.Exit(1) from None

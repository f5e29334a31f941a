"""`openpi-flash make-demo-checkpoint`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

MARKER = ".openpi-flash-demo-checkpoint"
"""Says that this command made the directory, and so may replace it."""


def make_demo_checkpoint(
    directory: Annotated[Path, typer.Argument(help="The directory to write.", show_default=False)],
) -> None:
    """Write a small checkpoint with untrained weights, in the layout of real ones.

    DIRECTORY then holds action/ and planner/, for action.checkpoint_dir and planner.checkpoint_dir.
    """
    target = directory.expanduser().resolve()
    refusal = _refusal(target)
    if refusal:
        typer.echo(f"error: {directory}: {refusal}", err=True)
        raise typer.Exit(1)
    from openpi_flash_models.demo_checkpoint import write_demo_checkpoint

    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / MARKER).write_text(
            "written by openpi-flash make-demo-checkpoint, which may replace it\n"
        )
        write_demo_checkpoint(partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except OSError as error:
        typer.echo(
            f"error: {error.filename or target}: {(error.strerror or str(error)).lower()}", err=True
        )
        raise typer.Exit(1) from None
    typer.echo(f"wrote {directory}: {_megabytes(target):.0f} MB, untrained weights")


def _refusal(target: Path) -> str:
    """Why `target` is left alone; empty if it may be written."""
    if not target.exists():
        return ""
    if not target.is_dir():
        return "is a file"
    if not any(target.iterdir()) or (target / MARKER).is_file():
        return ""
    return "holds files that this command did not write; choose an empty or new directory"


def _megabytes(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1e6

"""`openpi-flash make-demo-checkpoint`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

MARKER = ".openpi-flash-demo-checkpoint"
"""File that marks a directory as made by this command, which may therefore replace it."""


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
    from openpi_flash_models.demo.checkpoint import write_demo_checkpoint

    try:
        target.mkdir(parents=True, exist_ok=True)
        # first, so that an interrupted attempt can be repeated
        (target / MARKER).write_text(
            "made by openpi-flash make-demo-checkpoint, which may replace it\n"
        )
        partial = target / ".partial"
        _remove(partial)
        partial.mkdir()
        write_demo_checkpoint(partial)
        for old in target.iterdir():
            if old.name not in {MARKER, partial.name}:
                _remove(old)
        for new in partial.iterdir():
            new.rename(target / new.name)
        partial.rmdir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        typer.echo(f"error: {error.filename or target}: {reason}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"wrote {directory}: {_megabytes(target):.0f} MB, untrained weights")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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

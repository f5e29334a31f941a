"""`openpi-flash dataset lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def lint(
    dataset: Annotated[
        Path, typer.Argument(help="Folder of a LeRobot dataset.", show_default=False)
    ],
    *,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Do not look at images, which takes longest.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 after warnings, too.")
    ] = False,
) -> None:
    """Check a dataset for what makes training fail or learn something false.

    Exit status 1 after an error.
    """
    from openpi_flash_training.commands.data_errors import one_line_data_errors

    levels = set()
    with one_line_data_errors():
        from openpi_flash_training.dataset.reader import Dataset
        from openpi_flash_training.inspection.lint import lint as check

        data = Dataset.open(dataset)
        for finding in check(data, images=not no_images):
            levels.add(finding.level)
            typer.echo(str(finding))
    if not levels:
        typer.echo(f"{dataset}: nothing to complain about in {len(data.episodes)} episodes")
    if "error" in levels or (strict and levels):
        raise typer.Exit(1)

"""What `openpi-flash` offers besides serving: called by the command when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openpi_flash_training.commands.demonstrations import demonstrations
from openpi_flash_training.commands.stats import stats
from openpi_flash_training.commands.train import train

if TYPE_CHECKING:
    import typer


def add_commands(app: typer.Typer) -> None:
    """Adds the commands of datasets, training and evaluation; heavy imports stay inside them."""
    app.command("demonstrations", short_help="Write a dataset of a scripted expert.")(
        demonstrations
    )
    app.command("stats", short_help="Compute the normalisation statistics of a dataset.")(stats)
    app.command("train", short_help="Train a policy on a dataset.")(train)

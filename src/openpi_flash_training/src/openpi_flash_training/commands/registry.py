"""What `openpi-flash` offers besides serving: called by the command when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def add_commands(app: typer.Typer) -> None:
    """Adds the commands of datasets, training and evaluation; heavy imports stay inside them."""
    from openpi_flash_training.commands.train import train

    app.command("train", short_help="Train a policy on a dataset.")(train)

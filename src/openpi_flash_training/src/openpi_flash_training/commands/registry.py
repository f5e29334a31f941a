"""What `openpi-flash` offers besides serving: called by the command when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openpi_flash_training.commands.demonstrations import demonstrations
from openpi_flash_training.commands.eval import evaluate
from openpi_flash_training.commands.record import record
from openpi_flash_training.commands.sim import sim
from openpi_flash_training.commands.stats import stats
from openpi_flash_training.commands.train import train

if TYPE_CHECKING:
    import typer


def add_commands(app: typer.Typer) -> None:
    """Adds the commands of datasets, training and evaluation; heavy imports stay inside them."""
    app.command("record", short_help="Record episodes of a robot in plain Python.")(record)
    app.command("demonstrations", short_help="Write a dataset of a scripted expert.")(
        demonstrations
    )
    app.command("stats", short_help="Compute the normalisation statistics of a dataset.")(stats)
    app.command("train", short_help="Train a policy on a dataset.")(train)
    app.command("eval", short_help="Measure a policy on the simulated robot.")(evaluate)
    app.command("sim", short_help="Run a policy on the simulated arm in real time.")(sim)
    _add_dataset_commands(app)


def _add_dataset_commands(app: typer.Typer) -> None:
    import typer

    from openpi_flash_training.commands.convert import append, convert
    from openpi_flash_training.commands.inspect import inspect
    from openpi_flash_training.commands.lint import lint

    dataset = typer.Typer(
        help="Make, look at and check LeRobot datasets.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    dataset.command("convert", short_help="Convert recordings to a dataset.")(convert)
    dataset.command("append", short_help="Add recordings to a dataset.")(append)
    dataset.command("inspect", short_help="Say what is in a dataset, and draw it.")(inspect)
    dataset.command("lint", short_help="Check a dataset.")(lint)
    app.add_typer(dataset, name="dataset")

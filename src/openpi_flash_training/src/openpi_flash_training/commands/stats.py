"""`openpi-flash stats`: the normalisation statistics of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openpi_flash_training.statistics.measure import MeasuredField


def stats(
    dataset: Annotated[
        Path, typer.Argument(help="Folder of a LeRobot dataset.", show_default=False)
    ],
    *,
    config: Annotated[
        str | None,
        typer.Option(help="The inference config that will serve the policy.", show_default=False),
    ] = None,
    robot: Annotated[
        str | None, typer.Option(help="A robot, instead of a config.", show_default=False)
    ] = None,
    robot_file: Annotated[
        Path | None,
        typer.Option(help="A file that defines the robot or the config.", show_default=False),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(min=1, help="With --robot: steps of a chunk, 50 by default.")
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(
            metavar="COUNTS",
            help="With --robot: relative actions, as 6,-1: six relative, then one absolute.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=COLUMN",
            help="Which column of the dataset is a key of the robot's requests, or action.",
            show_default=False,
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Count every frame, compute quantiles exactly, in float64."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where assets/<asset_id>/norm_stats.json goes; the dataset's folder by default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compute norm_stats.json of a dataset: mean, std, q01, q99 of state and actions.

    Actions are measured over the horizon, relative where the config says so, after the robot's
    own conversions. The numbers are openpi's to the last digit, unless --exact.
    """
    from openpi_flash_training.commands.chosen_config import chosen_config
    from openpi_flash_training.commands.data_errors import one_line_data_errors
    from openpi_flash_training.commands.progress import frame_progress

    with one_line_data_errors():
        from openpi_flash_training.dataset.columns import find_columns
        from openpi_flash_training.dataset.reader import Dataset
        from openpi_flash_training.statistics.measure import measure
        from openpi_flash_training.statistics.norm_stats_file import (
            norm_stats_path,
            write_norm_stats,
        )
        from openpi_flash_training.statistics.small_ranges import range_warnings

        chosen = chosen_config(config, robot, robot_file, horizon, delta)
        data = Dataset.open(dataset)
        columns = find_columns(
            data.folder,
            chosen.robot,
            data.features,
            _mapped(column),
            need_cameras=False,
            how_to_name="--column {key}=COLUMN",
        )
        with frame_progress("stats", data.frames) as progress:
            measured = measure(data, columns, chosen, exact=exact, progress=progress)
        path = norm_stats_path(output or dataset, chosen.asset_id)
        write_norm_stats(path, measured)
    how = "exact" if exact else "as openpi counts, by batches of 32"
    typer.echo(f"dataset  {dataset}: {measured.frames} of {data.frames} frames, {how}")
    relative = sum(chosen.delta_mask)
    typer.echo(
        f"config   {chosen.name}: chunks of {chosen.action_horizon} steps, {relative} of "
        f"{len(chosen.robot.actions)} actions relative to the state"
    )
    for name, field in (("state", measured.state), ("actions", measured.actions)):
        _print_field(name, field)
    for line in range_warnings(measured, chosen.scaling):
        typer.echo(f"warning: {line}", err=True)
    typer.echo(f"written  {path}")


def _print_field(name: str, field: MeasuredField) -> None:
    head = ["mean", "std", "q01", "q99", "min", "max"]
    width = max(len(name), *(len(dimension) for dimension in field.names))
    typer.echo(f"{name:<{width}}" + "".join(f"{word:>10}" for word in head))
    measured = field.stats
    rows = (measured.mean, measured.std, measured.q01, measured.q99, field.low, field.high)
    for i, dimension in enumerate(field.names):
        numbers = "".join(f"{row[i]:>10.4g}" for row in rows if row is not None)
        typer.echo(f"{dimension:<{width}}{numbers}")


def _mapped(columns: list[str] | None) -> dict[str, str]:
    mapped = {}
    for given in columns or ():
        key, equals, name = given.partition("=")
        if not equals or not key or not name:
            raise typer.BadParameter(f"--column {given!r} is not KEY=COLUMN")
        mapped[key] = name
    return mapped

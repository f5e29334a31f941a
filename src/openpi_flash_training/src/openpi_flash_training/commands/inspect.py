"""`openpi-flash dataset inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from openpi_flash_training.dataset.reader import Dataset
    from openpi_flash_training.inspection.summary import Summary

_LABEL = 10
_MOST_TASKS = 20


def inspect(
    dataset: Annotated[
        Path, typer.Argument(help="Folder of a LeRobot dataset.", show_default=False)
    ],
    *,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Directory for overview.png, contact_sheet.png and episode.png.",
            show_default=False,
        ),
    ] = None,
    episode: Annotated[int, typer.Option(min=0, help="The episode of episode.png.")] = 0,
    episodes: Annotated[
        bool, typer.Option("--episodes", help="List every episode, with where it comes from.")
    ] = False,
) -> None:
    """Say what is in a dataset: episodes, lengths, tasks, columns, ranges; draw it."""
    from openpi_flash_training.commands.data_errors import one_line_data_errors

    with one_line_data_errors():
        from openpi_flash_training.dataset.reader import Dataset
        from openpi_flash_training.inspection.summary import summarise

        data = Dataset.open(dataset)
        if not data.episodes:
            typer.echo(f"{dataset}: no episode")
            return
        summary = summarise(data)
        for line in _lines(data, summary, every_episode=episodes):
            typer.echo(line)
        if plots is not None:
            _draw(plots, data, summary, episode)


def _lines(data: Dataset, summary: Summary, *, every_episode: bool) -> Iterator[str]:
    seconds = [length / data.fps for length in summary.lengths]
    yield _row("dataset", f"{data.folder}, LeRobot {data.info.version}, robot {data.robot_type}")
    yield _row(
        "episodes",
        f"{len(seconds)}, {data.frames} frames at {data.fps} Hz, {sum(seconds):.1f} s; "
        f"{min(seconds):.1f} to {max(seconds):.1f} s long, median {median(seconds):.1f} s",
    )
    for i, (task, frames) in enumerate(list(summary.tasks.items())[:_MOST_TASKS]):
        count = sum(task in episode.tasks for episode in data.episodes)
        said = f"{task!r}: {count} episodes, {frames} frames"
        yield _row("tasks" if i == 0 else "", said)
    if len(summary.tasks) > _MOST_TASKS:
        yield _row("", f"and {len(summary.tasks) - _MOST_TASKS} more")
    for i, (key, feature) in enumerate(data.features.items()):
        shape = " x ".join(map(str, feature.shape))
        yield _row("columns" if i == 0 else "", f"{key}: {feature.dtype} {shape}")
    if summary.lag is not None:
        lag, correlation = summary.lag
        yield _row(
            "lag", f"the state follows the action by {lag:.2f} s (correlation {correlation:.2f})"
        )
    for ranges in summary.ranges:
        width = max(len(ranges.key), *map(len, ranges.names))
        heads = ("min", "q01", "median", "q99", "max")
        yield f"{ranges.key:<{width}}" + "".join(f" {head:>10}" for head in heads)
        for name, numbers in zip(ranges.names, ranges.quantiles.T, strict=True):
            yield f"{name:<{width}}" + "".join(f" {number:>10.4g}" for number in numbers)
    if every_episode:
        yield f"{'episode':>7} {'frames':>7} {'s':>7}  task, source"
        for episode in data.episodes:
            source = episode.facts.get("source", "")
            yield (
                f"{episode.index:>7} {episode.length:>7} {episode.length / data.fps:>7.1f}  "
                f"{' | '.join(episode.tasks)}, {source}"
            )


def _draw(folder: Path, data: Dataset, summary: Summary, episode: int) -> None:
    from openpi_flash_training.episodes.error import DataError
    from openpi_flash_training.inspection.plots import (
        draw_contact_sheet,
        draw_episode,
        draw_overview,
        sheet_episodes,
    )

    if episode >= len(data.episodes):
        raise DataError(data.folder, f"does not exist; there are {len(data.episodes)}", episode)
    drawn = ["overview.png", "episode.png"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_overview(folder / "overview.png", data, summary)
        draw_episode(folder / "episode.png", data, summary, episode)
        if data.cameras:
            draw_contact_sheet(folder / "contact_sheet.png", data, sheet_episodes(data))
            drawn.append("contact_sheet.png")
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(folder, f"{reason.lower()}; name another by --plots") from error
    typer.echo(_row("plots", f"{', '.join(drawn)} in {folder}"))


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"

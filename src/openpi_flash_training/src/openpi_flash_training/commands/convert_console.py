"""What `openpi-flash dataset convert` and `append` print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from openpi_flash_training.conversion.convert import EpisodeReport


def show(reports: Iterator[EpisodeReport], total: int | None, fps: int) -> None:
    """Print what becomes of each recording, while it is converted.

    Args:
        reports: of the conversion.
        total: how many there will be; None: not known.
        fps: frames a second of the dataset.
    """
    for number, report in enumerate(reports, 1):
        of = "" if total is None else f"[{number}/{total}] "
        if not report.lengths:
            problem = report.problem.removeprefix(f"{report.source}: ")
            typer.echo(f"{of}{report.source}: left out: {problem}", err=True)
            continue
        frames = " + ".join(map(str, report.lengths))
        line = f"{of}{report.source}: {frames} frames"
        if report.left_out:
            line += f", {report.left_out} left out"
        typer.echo(line)
        for line in _held_streams(report, fps):
            typer.echo(f"    {line}")
        for note in report.notes:
            typer.echo(f"    note: {note}")
        if report.problem:
            typer.echo(f"    the rest is left out: {report.problem}", err=True)


def _held_streams(report: EpisodeReport, fps: int) -> list[str]:
    """A line for each stream that frames had to wait for; once for the joints of one message."""
    lines: dict[str, list[str]] = {}
    for name, stream in report.streams.items():
        # a gap within a frame changes nothing
        longest = max(2.5 / max(stream.rate, 1e-9), 1 / fps)
        if not stream.is_command and (stream.held or stream.longest_gap > longest):
            said = (
                f"{stream.rate:.3g} Hz, {stream.held} frames held, longest gap "
                f"{stream.longest_gap:.2f} s"
            )
            lines.setdefault(said, []).append(name)
    return [f"{', '.join(names)}: {said}" for said, names in lines.items()]


def summary(out: Path, *, check: bool) -> None:
    """Print how large a dataset is, and what its check finds.

    Raises:
        DataError: it cannot be read.
    """
    from openpi_flash_training.dataset.reader import Dataset
    from openpi_flash_training.inspection.lint import lint

    data = Dataset.open(out)
    seconds = data.frames / data.fps
    typer.echo(
        f"{out}: {len(data.episodes)} episodes, {data.frames} frames at {data.fps} Hz "
        f"({seconds:.0f} s), LeRobot {data.info.version}"
    )
    if check:
        for finding in lint(data):
            typer.echo(str(finding), err=True)

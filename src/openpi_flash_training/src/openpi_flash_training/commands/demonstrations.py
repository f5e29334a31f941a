"""`openpi-flash demonstrations`: a dataset of a scripted expert in the simulated robot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demonstrations(
    out: Annotated[
        Path, typer.Argument(help="Folder of the new dataset.", metavar="OUT", show_default=False)
    ],
    *,
    task: Annotated[
        list[str],
        typer.Option(
            help="touch, pick or place; several times for several, in turns.", show_default=False
        ),
    ],
    episodes: Annotated[int, typer.Option(min=1, help="How many.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same dataset.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that play and draw.")] = 1,
    fps: Annotated[int, typer.Option(min=2, max=50, help="Frames per second.")] = 10,
    horizon: Annotated[int, typer.Option(min=1, help="Steps of each labelled chunk.")] = 10,
    image_size: Annotated[int, typer.Option(min=16, help="Edge of the pictures, pixels.")] = 112,
    seconds: Annotated[
        float | None, typer.Option(min=0.5, help="Length of an episode; else by its task.")
    ] = None,
    no_noise: Annotated[
        bool, typer.Option("--no-noise", help="Do not disturb the expert.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a dataset begun with the same options.")
    ] = False,
) -> None:
    """Let a scripted expert do tasks in the simulated robot, and write a LeRobot dataset.

    Each frame has the expert's chunk for every cube, and where the cubes are in each picture. Noise
    leads the expert astray in most episodes, so that the data show how it comes back.
    """
    from openpi_flash_training.demonstrations.generate import Written, generate
    from openpi_flash_training.demonstrations.noise import NoiseSettings
    from openpi_flash_training.demonstrations.plans import DatasetPlan
    from openpi_flash_training.episodes.error import DataError
    from sim_robot.gl_backend import RenderingUnavailableError
    from sim_robot.tasks import TASKS

    unknown = [name for name in task if name not in TASKS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(TASKS)}")
    plan = DatasetPlan(
        tasks=tuple(task),
        episodes=episodes,
        seed=seed,
        fps=fps,
        horizon=horizon,
        image_size=image_size,
        noise=None if no_noise else NoiseSettings(),
        seconds=seconds,
    )
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        "demonstrations",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        shown = bar.add_task("", total=episodes)

        def show(written: Written) -> None:
            bar.update(shown, completed=written.episodes)

        try:
            written = generate(plan, out, workers=workers, resume=resume, on_episode=show)
        except (DataError, RenderingUnavailableError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
    typer.echo(f"dataset     {out}")
    typer.echo(f"episodes    {written.episodes}, {written.frames} frames at {fps} Hz")
    typer.echo(f"task done   in {written.succeeded} of {written.played} episodes of this run")

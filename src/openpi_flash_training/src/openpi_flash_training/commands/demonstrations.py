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
    from openpi_flash_training.commands.progress import frame_progress
    from openpi_flash_training.commands.simulation_errors import one_line_errors
    from openpi_flash_training.demonstrations.generate import generate
    from openpi_flash_training.demonstrations.noise import NoiseSettings
    from openpi_flash_training.demonstrations.plans import DatasetPlan
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
    with one_line_errors(), frame_progress("demonstrations", episodes) as progress:
        written = generate(
            plan,
            out,
            workers=workers,
            resume=resume,
            on_episode=lambda written: progress(written.episodes),
        )
    typer.echo(f"dataset     {out}")
    typer.echo(f"episodes    {written.episodes}, {written.frames} frames at {fps} Hz")
    typer.echo(f"task done   in {written.succeeded} of {written.played} episodes of this run")

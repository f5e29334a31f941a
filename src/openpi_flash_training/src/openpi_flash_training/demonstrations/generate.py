"""Writes a dataset of demonstrations: worker processes play episodes, this one writes them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.demonstrations.begun import check_begun, facts_of
from openpi_flash_training.demonstrations.columns import ROBOT_TYPE, features, image_column
from openpi_flash_training.demonstrations.episode import (
    Demonstration,
    EpisodePlan,
    demonstrate,
    has_succeeded,
)
from openpi_flash_training.demonstrations.pictures import Pictures
from openpi_flash_training.demonstrations.plans import DatasetPlan
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.spawned_map import WorkerKilledError, spawned_map
from sim_robot.gl_backend import choose_gl_backend
from sim_robot.plant import Plant


@dataclass(frozen=True)
class Written:
    """What has been written so far.

    Attributes:
        episodes: how many.
        frames: in all of them.
        succeeded: episodes of this run whose task was done.
        played: episodes of this run.
    """

    episodes: int
    frames: int
    succeeded: int
    played: int


def generate(
    plan: DatasetPlan,
    folder: Path,
    *,
    workers: int = 1,
    resume: bool = False,
    on_episode: Callable[[Written], None] = lambda _: None,
) -> Written:
    """Write a dataset; the same plan gives the same one, however many workers there are.

    Args:
        plan: what it should hold.
        folder: where to; empty, unless `resume`.
        workers: processes.
        resume: go on with a dataset that was begun with the same plan.
        on_episode: told after each episode.

    Raises:
        DataError: the folder cannot be used, its dataset was begun with another plan, or a worker
            was killed.
        RenderingUnavailableError: there is no OpenGL to draw with.
    """
    os.environ["MUJOCO_GL"] = choose_gl_backend()
    columns = features(plan.image_size, plan.horizon)
    if resume:
        writer = DatasetWriter.resume(folder)
        try:
            check_begun(plan, writer)
        except DataError:
            writer.abandon()
            raise
    else:
        writer = DatasetWriter(folder, plan.fps, columns, robot_type=ROBOT_TYPE)
    written = Written(writer.episodes, writer.frames, 0, 0)
    plans = [plan.episode(index) for index in range(writer.episodes, plan.episodes)]
    with writer, _one_error(folder):
        for demonstration in spawned_map(_play, plans, workers):
            episode, is_done = demonstration.plan, has_succeeded(demonstration)
            writer.add_episode(
                episode.prompt,
                demonstration.numbers,
                {image_column(name): image for name, image in demonstration.images.items()},
                facts={"success": is_done, "cube": episode.cube, **facts_of(plan, episode)},
            )
            written = Written(
                writer.episodes, writer.frames, written.succeeded + is_done, written.played + 1
            )
            on_episode(written)
    return written


@contextlib.contextmanager
def _one_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except WorkerKilledError as error:
        raise DataError(
            folder,
            "is not whole: a process that played was killed; go on by --resume, with fewer "
            "--workers if memory was short",
        ) from error


class _Worker:
    """A process's own plant and cameras."""

    plant: Plant | None = None
    pictures: Pictures
    image_size: int | None = None


def _play(plan: EpisodePlan) -> Demonstration:
    if _Worker.plant is None:
        _Worker.plant = Plant()
    if _Worker.image_size != plan.image_size:
        if _Worker.image_size is not None:
            _Worker.pictures.close()
        _Worker.pictures = Pictures(_Worker.plant.model, plan.image_size)
        _Worker.image_size = plan.image_size
    return demonstrate(_Worker.plant, _Worker.pictures, plan)

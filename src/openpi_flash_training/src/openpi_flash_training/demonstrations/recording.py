"""Records what the simulated arm does as episodes of a LeRobot dataset, labelled by the expert.

The columns are those of demonstrations, and `intervention`: whether a person had the arm. `action`
is what the arm was commanded; `label.chunks` is what the expert would have done there. So the
episodes of a policy are data to learn from (DAgger, Ross et al. 2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.demonstrations.columns import (
    ACTION,
    ROBOT_TYPE,
    features,
    image_column,
)
from openpi_flash_training.demonstrations.episode import EpisodePlan, Numbers, labels
from openpi_flash_training.demonstrations.pictures import Image, Pictures
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import INTERVENTION
from openpi_flash_training.spawned_map import WorkerKilledError, spawned_map
from sim_robot.plant import Plant, Snapshot
from sim_robot.tasks import TASKS, Outcome


@dataclass
class EpisodeFrames:
    """The frames of one episode so far; pictures are drawn when it has ended.

    Attributes:
        plan: task, cube, rate and sizes.
        prompt: what the policy was told; None: the task's own words.
        rows: numbers of each frame, by column.
        snapshots: what the cameras saw at each frame.
    """

    plan: EpisodePlan
    prompt: str | None = None
    rows: list[dict[str, Numbers]] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    def note(self, plant: Plant, command: NDArray[np.float64], *, is_intervention: bool) -> None:
        """Keep a frame, if one is due at the plant's time."""
        if plant.time + 1e-6 < len(self.rows) / self.plan.fps:
            return
        row = labels(plant, TASKS[self.plan.task], self.plan)
        row[ACTION] = command.astype(np.float32)
        row[INTERVENTION] = np.array([is_intervention], np.bool_)
        self.rows.append(row)
        self.snapshots.append(plant.snapshot())


@dataclass(frozen=True, eq=False)
class Recorded:
    """An episode to be added to a dataset.

    Attributes:
        frames: of the episode.
        outcome: how it ended.
        facts: further ones.
    """

    frames: EpisodeFrames
    outcome: Outcome
    facts: Mapping[str, Any]


class DatasetRecorder:
    """Writes episodes; an episode that was added is whole on disk. For one thread.

    Args:
        folder: of a new dataset.
        fps: frames per second.
        horizon: steps of the expert's chunks.
        image_size: edge of the pictures, pixels.

    Raises:
        DataError: the folder cannot be used.
        RenderingUnavailableError: there is no OpenGL to draw with.
    """

    def __init__(self, folder: Path, fps: int, horizon: int, image_size: int) -> None:
        columns = {**features(image_size, horizon), INTERVENTION: Feature("bool", (1,))}
        self._writer = DatasetWriter(folder, fps, columns, robot_type=ROBOT_TYPE)
        self._pictures = Pictures(Plant().model, image_size)
        self._image_size = image_size

    def add_all(self, episodes: Sequence[Recorded], workers: int = 1) -> None:
        """Draw and add episodes; as :meth:`add` of each, drawn in as many processes.

        Raises:
            DataError: the dataset cannot be written, or a process that drew was killed.
        """
        episodes = [episode for episode in episodes if episode.frames.rows]
        if workers == 1:
            for episode in episodes:
                self.add(episode.frames, episode.outcome, **episode.facts)
            return
        jobs = ((episode.frames.snapshots, self._image_size) for episode in episodes)
        try:
            for episode, images in zip(episodes, spawned_map(_draw, jobs, workers), strict=True):
                self.add(episode.frames, episode.outcome, images, **episode.facts)
        except WorkerKilledError as error:
            raise DataError(
                self._writer.folder,
                f"holds {self.episodes} of {len(episodes)} episodes, because a process that drew "
                "pictures was killed; delete it, and try fewer --workers",
            ) from error

    def add(
        self,
        frames: EpisodeFrames,
        outcome: Outcome,
        images: Mapping[str, Image] | None = None,
        /,
        **facts: Any,
    ) -> None:
        """Add an episode; one without frames is left out.

        Args:
            frames: of the episode.
            outcome: how it ended.
            images: what its cameras saw, by camera; None: they are drawn now.
            facts: further ones.
        """
        if not frames.rows:
            return
        rows, plan = frames.rows, frames.plan
        numbers = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        if images is None:
            images = self._pictures.take_all(frames.snapshots)
        done = outcome is Outcome.SUCCESS
        self._writer.add_episode(
            plan.prompt if frames.prompt is None else frames.prompt,
            numbers,
            {image_column(name): image for name, image in images.items()},
            facts={"success": done, "cube": plan.cube, **facts},
        )

    @property
    def episodes(self) -> int:
        """How many were added."""
        return self._writer.episodes

    def close(self) -> None:
        """Make the dataset readable; one without an episode is deleted."""
        if self.episodes:
            self._writer.close()
        else:
            self._writer.abandon()
        self._pictures.close()


class _Drawer:
    """A process's own cameras."""

    pictures: Pictures | None = None
    image_size = 0


def _draw(job: tuple[Sequence[Snapshot], int]) -> dict[str, Image]:
    snapshots, image_size = job
    if _Drawer.pictures is None or _Drawer.image_size != image_size:
        _Drawer.pictures, _Drawer.image_size = Pictures(Plant().model, image_size), image_size
    return _Drawer.pictures.take_all(snapshots)

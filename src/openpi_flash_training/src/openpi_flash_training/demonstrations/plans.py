"""Which episodes a dataset has. Pure: episode n depends on the seed and n alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from openpi_flash_training.demonstrations.episode import SECONDS, EpisodePlan
from openpi_flash_training.demonstrations.noise import NoiseSettings
from sim_robot.robot import CUBES


@dataclass(frozen=True)
class DatasetPlan:
    """What a dataset should hold.

    Attributes:
        tasks: names of `tasks.TASKS`; taken in turns.
        episodes: how many.
        seed: of all of them.
        fps: frames per second.
        horizon: steps of a chunk.
        image_size: edge of a picture, pixels.
        noise: how the expert is disturbed; None: not at all.
        seconds: how long an episode is; None: by its task.
    """

    tasks: Sequence[str]
    episodes: int
    seed: int
    fps: int = 10
    horizon: int = 10
    image_size: int = 112
    noise: NoiseSettings | None = field(default_factory=NoiseSettings)
    seconds: float | None = None

    def episode(self, index: int) -> EpisodePlan:
        """The plan of one episode; colours take turns, then tasks."""
        task = self.tasks[index // len(CUBES) % len(self.tasks)]
        return EpisodePlan(
            task=task,
            cube=CUBES[index % len(CUBES)],
            seed=(self.seed, index),
            fps=self.fps,
            horizon=self.horizon,
            image_size=self.image_size,
            seconds=SECONDS[task] if self.seconds is None else self.seconds,
            noise=self.noise,
        )

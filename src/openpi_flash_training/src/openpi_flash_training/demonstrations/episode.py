"""One demonstration: the expert at work, disturbed, with a label for every frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_training.demonstrations.columns import (
    ACTION,
    CHUNKS,
    CUBE_PIXELS,
    CUBE_POSITIONS,
    CUBE_VISIBLE,
    STAGES_COLUMN,
    STATE,
)
from openpi_flash_training.demonstrations.expert import STAGES, chunk, intent, seen
from openpi_flash_training.demonstrations.noise import CommandNoise, NoiseSettings
from openpi_flash_training.demonstrations.pictures import CAMERA_SIZE, Image, Pictures
from sim_robot.plant import Plant
from sim_robot.projection import letterboxed
from sim_robot.robot import CAMERAS, CUBES, GRIPPER_SPEED, LOWER_LIMITS, UPPER_LIMITS
from sim_robot.scene_state import SceneState
from sim_robot.starts import spread
from sim_robot.tasks import TASKS, Outcome, Progress, Task, judge

Numbers = NDArray[Any]

JUDGED_EVERY_S = 0.02
"""How often success is looked at."""

SECONDS = {"touch": 4.0, "pick": 5.0, "place": 8.0}
"""How long a demonstration lasts: well past success, so that a policy learns to stay there."""


@dataclass(frozen=True)
class EpisodePlan:
    """What is demonstrated.

    Attributes:
        task: a name of `tasks.TASKS`.
        cube: with which cube.
        seed: of the start and the noise.
        fps: frames per second.
        horizon: steps of a chunk.
        image_size: edge of a picture, pixels.
        seconds: how long.
        noise: how the expert's commands are disturbed; None: not at all.
    """

    task: str
    cube: str
    seed: tuple[int, ...]
    fps: int = 10
    horizon: int = 10
    image_size: int = 112
    seconds: float = 4.0
    noise: NoiseSettings | None = field(default_factory=NoiseSettings)

    @property
    def prompt(self) -> str:
        """What the robot is told."""
        return TASKS[self.task].prompt(self.cube)


@dataclass(frozen=True, eq=False)
class Demonstration:
    """An episode; every array has a row for each frame.

    Attributes:
        plan: what was asked.
        numbers: by column.
        images: by camera, uint8 [T, S, S, 3]; empty where nobody drew.
        progress: how far the task came.
    """

    plan: EpisodePlan
    numbers: dict[str, Numbers]
    images: dict[str, Image]
    progress: Progress


def demonstrate(plant: Plant, pictures: Pictures | None, plan: EpisodePlan) -> Demonstration:
    """Let the expert do a task from a random start.

    Args:
        plant: is reset.
        pictures: of this plant, in the plan's size; None draws nothing.
        plan: what to do.
    """
    task, step_s = TASKS[plan.task], 1.0 / plan.fps
    rng = np.random.default_rng(plan.seed)
    plant.place(spread(rng))
    settings = plan.noise or NoiseSettings(calm_share=1.0)
    noise = CommandNoise(settings, rng, len(LOWER_LIMITS) - 1, step_s)
    execution = _Execution(plant, task, plan.cube)
    rows: list[dict[str, Numbers]] = []
    images: dict[str, list[Image]] = {camera: [] for camera in CAMERAS if pictures}
    for _ in range(round(plan.seconds * plan.fps)):
        row = labels(plant, task, plan)
        rows.append(row)
        if pictures is not None:
            for camera, picture in pictures.take(plant.snapshot()).items():
                images[camera].append(picture)
        wanted = np.array(row[ACTION], np.float64)
        wanted[:-1] += noise.next()
        execution.play(wanted, step_s)
    return Demonstration(
        plan,
        {name: np.stack([row[name] for row in rows]) for name in rows[0]},
        {camera: np.stack(pictures_of) for camera, pictures_of in images.items()},
        execution.progress,
    )


def labels(plant: Plant, task: Task, plan: EpisodePlan) -> dict[str, Numbers]:
    """All numbers of a frame that shows what is true now."""
    state = plant.state()
    # one row more: the command of this frame is for the next one
    chunks = np.stack(
        [
            chunk(task, cube, state, horizon=max(plan.horizon, 2), step_s=1.0 / plan.fps)
            for cube in CUBES
        ]
    )
    own = chunks[CUBES.index(plan.cube)]
    action = np.append(own[1, :-1], own[0, -1])
    pixels, visible = cube_labels(plant, state, plan.image_size)
    stages = [STAGES.index(intent(task, cube, seen(state)).stage) for cube in CUBES]
    return {
        STATE: np.array(state.joints, np.float32),
        ACTION: action.astype(np.float32),
        CHUNKS: chunks[:, : plan.horizon].astype(np.float32),
        CUBE_PIXELS: pixels,
        CUBE_VISIBLE: visible,
        CUBE_POSITIONS: np.array(state.cubes, np.float32),
        STAGES_COLUMN: np.array(stages, np.int64),
    }


def cube_labels(
    plant: Plant, state: SceneState, image_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the cubes are in the letterboxed pictures [2, 3, 2], and how visible [2, 3]."""
    width, height = CAMERA_SIZE
    pixels = np.zeros((len(CAMERAS), len(CUBES), 2), np.float32)
    visible = np.zeros((len(CAMERAS), len(CUBES)), np.float32)
    centres = np.array(state.cubes)
    for index, camera in enumerate(CAMERAS):
        view = plant.camera_view(camera, width, height)
        own, depth = view.pixels_of(centres)
        inside = view.is_inside(own, depth)
        # far outside, or behind the camera, a number would mean nothing
        own = np.clip(own, [-0.5, -0.5], [width - 0.5, height - 0.5])
        pixels[index] = letterboxed(own, width, height, image_size)
        for cube_index, cube in enumerate(CUBES):
            if inside[cube_index]:
                visible[index, cube_index] = plant.visible_share(camera, cube)
    return pixels, visible


class _Execution:
    """Plays commands on a plant, and watches how far the task comes."""

    def __init__(self, plant: Plant, task: Task, cube: str) -> None:
        self._plant, self._task, self._cube = plant, task, cube
        self._command = np.array(plant.state().joints)
        self.progress = Progress()

    def play(self, wanted: NDArray[np.float64], seconds: float) -> None:
        """Lead the joints in a straight line to a command."""
        plant, before = self._plant, self._command
        most = GRIPPER_SPEED * seconds
        after = np.clip(wanted, LOWER_LIMITS, UPPER_LIMITS)
        after[-1] = before[-1] + np.clip(after[-1] - before[-1], -most, most)
        velocity = (after - before) / seconds
        judged_every = round(JUDGED_EVERY_S / plant.timestep)
        for index in range(1, round(seconds / plant.timestep) + 1):
            plant.command(before + velocity * (index * plant.timestep), velocity)
            plant.step()
            if index % judged_every == 0:
                self.progress = judge(self._task, self._cube, self.progress, plant.state())
        self._command = after


def has_succeeded(demonstration: Demonstration) -> bool:
    """Whether the expert did the task."""
    return demonstration.progress.outcome is Outcome.SUCCESS

"""What the closed loop asks of a simulation, and the arm with its cubes as one."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_training.demonstrations.expert import SUBTASKS, intent, seen
from openpi_flash_training.demonstrations.pictures import Image, Pictures
from openpi_flash_training.demonstrations.recording import EpisodeFrames
from openpi_flash_training.evaluation.arm_settings import arm_settings
from openpi_flash_training.evaluation.conditions import Trial
from sim_robot.plant import Plant
from sim_robot.robot import JOINTS
from sim_robot.scene_state import SceneState
from sim_robot.starts import spread
from sim_robot.tasks import TASKS, Progress, judge

Vector = NDArray[np.float64]

MS = 1_000_000
TICK_NS = 10 * MS
"""How often answers are looked for and success is judged."""
CONTROL_TICKS = 2
"""Ticks of a control period: how often the robot is told where to be."""


class Scene(Protocol):
    """A simulated robot and what it works on. Make and use it in one thread."""

    @property
    def joints(self) -> tuple[str, ...]:
        """Names, in the order of every vector here."""

    def settings(self, **changes: Any) -> NodeSettings:
        """The robot in the words of docs/robot_parameters.md, with parameters that differ."""

    def begin(self, trial: Trial) -> None:
        """Put everything where the trial begins."""

    def positions(self) -> Vector:
        """Where the joints are, [J]."""

    def truth(self) -> SceneState | None:
        """What a policy that may know the truth is told; None: there is no such policy."""

    def subtask(self, trial: Trial) -> str | None:
        """What a planner should say now; None: nobody knows."""

    def pictures(self) -> dict[str, Image]:
        """What the cameras see now, in their own size."""

    def advance(self, motion: Motion | None, told: Vector, now: int) -> Vector:
        """Simulate a tick.

        Args:
            motion: where the robot is to be and when; None: where it was told to be before.
            told: where it was told to be at last, [J].
            now: when the tick begins, ns on the motion's clock.

        Returns:
            Where it was told to be at last.
        """

    def judge(self, trial: Trial, progress: Progress) -> Progress:
        """The progress after the tick."""

    def note(self, frames: EpisodeFrames, told: Vector) -> None:
        """Keep the moment for a dataset."""

    def close(self) -> None:
        """Give OpenGL back."""


class CubeScene:
    """The simulated arm with its three cubes."""

    joints = JOINTS

    def __init__(self) -> None:
        self.plant = Plant()
        self._pictures: Pictures | None = None

    def settings(self, **changes: Any) -> NodeSettings:
        """The arm's."""
        return arm_settings(**changes)

    def begin(self, trial: Trial) -> None:
        """Spread cubes and hand."""
        self.plant.place(spread(np.random.default_rng((trial.seed, trial.index))))

    def positions(self) -> Vector:
        """Of the arm and its gripper, [7]."""
        return np.array(self.plant.positions)

    def truth(self) -> SceneState:
        """Where cubes and hand are."""
        return self.plant.state()

    def subtask(self, trial: Trial) -> str:
        """The scripted expert's stage in words."""
        scene = seen(self.plant.state())
        return SUBTASKS[intent(TASKS[trial.task], trial.cube, scene).stage]

    def pictures(self) -> dict[str, Image]:
        """Of both cameras."""
        if self._pictures is None:
            self._pictures = Pictures(self.plant.model, None)
        return self._pictures.take(self.plant.snapshot())

    def advance(self, motion: Motion | None, told: Vector, now: int) -> Vector:
        """Follow the motion at every step of the physics."""
        step_ns = round(self.plant.timestep * 1e9)
        for index in range(1, TICK_NS // step_ns + 1):
            velocities: Vector = np.zeros(len(JOINTS))
            if motion is not None:
                due = motion.sample(now + index * step_ns)
                told, velocities = due.positions, due.velocities
            self.plant.command(told, velocities)
            self.plant.step()
        return told

    def judge(self, trial: Trial, progress: Progress) -> Progress:
        """By the task and the cube that the prompt names."""
        return judge(TASKS[trial.task], trial.cube, progress, self.plant.state())

    def note(self, frames: EpisodeFrames, told: Vector) -> None:
        """Keep the moment, with the expert's labels."""
        frames.note(self.plant, told, is_intervention=False)

    def close(self) -> None:
        """Give OpenGL back."""
        if self._pictures is not None:
            self._pictures.close()

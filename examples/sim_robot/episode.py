"""One episode of the simulated robot: who wants what from which start, and how far it has come.

Pure. An order is a line of text, so that it can be a ROS parameter: "touch blue 7 3".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_robot.robot import COLOURS, CUBES
from sim_robot.scene_state import SceneState
from sim_robot.starts import Start, spread
from sim_robot.tasks import TASKS, Progress, judge

ORDER_FORM = "TASK COLOUR SEED INDEX"


class OrderError(ValueError):
    """A text is no order; the message says why."""


@dataclass(frozen=True)
class EpisodeOrder:
    """What is to be done from where.

    Attributes:
        task: a name of `tasks.TASKS`.
        cube: with which cube.
        seed: of all starts.
        index: of this start; the same seed and index give the same start.
    """

    task: str
    cube: str
    seed: int
    index: int

    def __str__(self) -> str:
        return f"{self.task} {COLOURS[CUBES.index(self.cube)]} {self.seed} {self.index}"

    @property
    def prompt(self) -> str:
        """What a policy is told."""
        return TASKS[self.task].prompt(self.cube)

    def start(self) -> Start:
        """Where arm and cubes are when it begins."""
        return spread(np.random.default_rng((self.seed, self.index)))


def parse_order(text: str) -> EpisodeOrder:
    """Read an order, as `str` writes it.

    Raises:
        OrderError: it is none.
    """
    words = text.split()
    if len(words) != 4:
        raise OrderError(f"{text!r} is not of the form {ORDER_FORM!r}")
    task, colour, *numbers = words
    if task not in TASKS:
        raise OrderError(f"the task {task!r} is not one of {', '.join(TASKS)}")
    if colour not in COLOURS:
        raise OrderError(f"the colour {colour!r} is not one of {', '.join(COLOURS)}")
    if not all(number.isdecimal() for number in numbers):
        raise OrderError(f"seed and index of {text!r} are not whole numbers from 0 on")
    seed, index = map(int, numbers)
    return EpisodeOrder(task, CUBES[COLOURS.index(colour)], seed, index)


def order_of_prompt(prompt: str, seed: int, index: int) -> EpisodeOrder | None:
    """The order whose prompt is this one; None: it is no task's."""
    for task in TASKS.values():
        for cube in CUBES:
            if task.prompt(cube) == prompt:
                return EpisodeOrder(task.name, cube, seed, index)
    return None


class RunningEpisode:
    """An order and its progress.

    Args:
        order: what is to be done.
        number: of the episode, from 1 on.
    """

    def __init__(self, order: EpisodeOrder, number: int) -> None:
        self.order, self.number = order, number
        self.progress = Progress()

    def look(self, state: SceneState) -> None:
        """Take one more state of the scene."""
        self.progress = judge(TASKS[self.order.task], self.order.cube, self.progress, state)

"""What the arm may be asked to do with a cube, and how far it has come. Pure.

A task is judged by folding `judge` over the states of an episode:

    progress = Progress()
    for state in states:
        progress = judge(task, cube, progress, state)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from sim_robot.robot import COLOURS, CUBE_HALF, CUBES, PLATE, PLATE_RADIUS, TABLE_Z
from sim_robot.scene_state import SceneState

NEAR = 0.03
"""From the hand to the cube sideways, m: it is reached, if the hand is also low."""

LOW = 0.10
"""Height of the hand above the centre of a cube that it has reached, m."""

LIFT = 0.05
"""How high a cube is lifted by `pick`, m."""

HANDLED = 0.02
"""How high a cube is lifted at least that an arm has chosen, m."""

RESTING = CUBE_HALF + TABLE_Z
"""Height of the centre of a cube that lies on the mat, m."""


class Outcome(Enum):
    """How an episode ended; RUNNING: it has not."""

    RUNNING = "running"
    SUCCESS = "success"
    WRONG_CUBE = "wrong cube"


@dataclass(frozen=True)
class Task:
    """One kind of task.

    Attributes:
        name: on the command line.
        instruction: the prompt, with the colour left open.
        stages: in the order in which an episode passes them; the last one is success.
        hold_s: how long the last stage must last.
        time_limit_s: after which an episode has failed.
    """

    name: str
    instruction: str
    stages: tuple[str, ...]
    hold_s: float
    time_limit_s: float

    def prompt(self, cube: str) -> str:
        """What the policy is told, for example "touch the red cube"."""
        return self.instruction.format(COLOURS[CUBES.index(cube)])


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("touch", "touch the {} cube", ("reach", "touch"), 0.0, 8.0),
        Task("pick", "pick up the {} cube", ("reach", "close", "lift"), 1.0, 12.0),
        Task("place", "put the {} cube on the plate", ("reach", "close", "lift", "place"), 0.5, 20),
    )
}


@dataclass(frozen=True)
class Progress:
    """How far an episode has come.

    Attributes:
        reached_at: when each stage was first reached, seconds.
        chosen: the cube that the arm has touched first, or lifted first; None: none yet.
        held_since: since when the last stage lasts; None: it does not.
        outcome: success, failure, or neither yet.
        ended_at: when the outcome was known, seconds.
    """

    reached_at: Mapping[str, float] = field(default_factory=dict)
    chosen: str | None = None
    held_since: float | None = None
    outcome: Outcome = Outcome.RUNNING
    ended_at: float | None = None


def holds(task: Task, stage: str, cube: str, state: SceneState) -> bool:
    """Whether a stage of a task is true in a state, for a cube."""
    x, y, z = state.cubes[CUBES.index(cube)]
    hand_x, hand_y, hand_z = state.hand.point
    if stage == "reach":
        is_near = math.hypot(x - hand_x, y - hand_y) <= NEAR and hand_z - z <= LOW
        return is_near or cube in state.touched
    if stage == "touch":
        return cube in state.touched
    if stage == "close":
        return cube in state.gripped
    if stage == "lift":
        return cube in state.gripped and z >= RESTING + LIFT
    if stage == "place":
        is_over = math.hypot(x - PLATE[0], y - PLATE[1]) <= PLATE_RADIUS
        return is_over and cube in state.on_plate and cube not in state.touched
    raise ValueError(f"{task.name} has no stage {stage!r}, only {', '.join(task.stages)}")


def judge(task: Task, cube: str, progress: Progress, state: SceneState) -> Progress:
    """The progress after one more state; what has ended stays as it is.

    Args:
        task: what the arm is to do.
        cube: with which cube.
        progress: after the states before.
        state: the next one.
    """
    if progress.outcome is not Outcome.RUNNING:
        return progress
    chosen = progress.chosen or _chosen(task, cube, state)
    reached = dict(progress.reached_at)
    for stage in task.stages:
        if stage not in reached and holds(task, stage, cube, state):
            reached[stage] = state.time
    held_since, outcome = None, Outcome.RUNNING
    if holds(task, task.stages[-1], cube, state):
        held_since = state.time if progress.held_since is None else progress.held_since
        if state.time - held_since >= task.hold_s - 1e-6:
            outcome = Outcome.SUCCESS
    if chosen not in (None, cube) and outcome is Outcome.RUNNING:
        outcome = Outcome.WRONG_CUBE
    ended_at = None if outcome is Outcome.RUNNING else state.time
    return replace(
        progress,
        reached_at=reached,
        chosen=chosen,
        held_since=held_since,
        outcome=outcome,
        ended_at=ended_at,
    )


def _chosen(task: Task, cube: str, state: SceneState) -> str | None:
    """The cube that the arm has chosen in this state; the named one, if several."""
    if task.name == "touch":
        found = [name for name in CUBES if name in state.touched]
    else:
        found = [
            name
            for name, (_, _, z) in zip(CUBES, state.cubes, strict=True)
            if name in state.gripped and z >= RESTING + HANDLED
        ]
    return cube if cube in found else (found[0] if found else None)

"""The tasks that can be evaluated: ours on the simulated arm, and published ones beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sim_robot.robot import COLOURS, CUBES
from sim_robot.tasks import TASKS

ALOHA_TRANSFER_CUBE = "aloha-transfer-cube"


@dataclass(frozen=True)
class TaskFacts:
    """What is said and counted of a task, whatever simulates it.

    Attributes:
        name: on the command line.
        instruction: the prompt, with the colour left open where there are colours.
        stages: in the order in which an episode passes them; the last one is success.
        time_limit_s: after which an episode has failed.
        has_colours: whether the prompt names one of several cubes.
    """

    name: str
    instruction: str
    stages: tuple[str, ...]
    time_limit_s: float
    has_colours: bool = True

    def prompt(self, cube: str) -> str:
        """What the policy is told."""
        if not self.has_colours:
            return self.instruction
        return self.instruction.format(COLOURS[CUBES.index(cube)])


TASK_FACTS: Mapping[str, TaskFacts] = {
    **{
        task.name: TaskFacts(task.name, task.instruction, task.stages, task.time_limit_s)
        for task in TASKS.values()
    },
    # the prompt is openpi's (pi0_aloha_sim); gym-aloha ends an episode after 300 steps of 20 ms,
    # and the stages are its rewards 1 to 4
    ALOHA_TRANSFER_CUBE: TaskFacts(
        ALOHA_TRANSFER_CUBE, "Transfer cube", ("touch", "lift", "meet", "transfer"), 6.0, False
    ),
}

"""What the closed loop asks of a policy, and the scripted expert as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.splice.rtc import Continuation
from openpi_flash_robot.settings.server_contract import Agreement, agree, parse_contract
from openpi_flash_training.demonstrations.expert import chunk
from openpi_flash_training.evaluation.arm_settings import arm_settings
from sim_robot.robot import CUBES, JOINTS
from sim_robot.scene_state import SceneState
from sim_robot.tasks import TASKS

Image = NDArray[np.uint8]


class PolicyFailedError(RuntimeError):
    """The policy cannot be asked, or gives no chunk for this arm; the message says why."""


@dataclass(frozen=True, eq=False)
class Query:
    """One observation.

    Attributes:
        images: by camera, uint8 RGB [height, width, 3]; empty for a policy that needs none.
        joints: measured, [J].
        prompt: what the robot is told.
        continuation: of the running chunk; None where the method tells nothing, or nothing runs.
        seed: of the policy's noise.
        scene: what is true, for policies that may know it; None: nothing is told.
        task: name of the task that is tried.
    """

    images: Mapping[str, Image]
    joints: NDArray[np.float64]
    prompt: str
    continuation: Continuation | None
    seed: int
    scene: SceneState | None
    task: str


@dataclass(frozen=True, eq=False)
class Reply:
    """What a policy answers.

    Attributes:
        actions: a chunk [H, J] in the order of the robot's joints.
        subtask: what the planner beside it says; None: there is none, or it says nothing.
    """

    actions: NDArray[np.float64]
    subtask: str | None = None


class Policy(Protocol):
    """Answers observations with chunks."""

    @property
    def agreement(self) -> Agreement:
        """What its chunks are."""

    @property
    def needs_images(self) -> bool:
        """Whether it looks at pictures."""

    def answer(self, query: Query) -> Reply:
        """A chunk, and perhaps a subtask.

        Raises:
            PolicyFailedError: there is none.
        """

    def reset(self) -> None:
        """A new episode begins."""

    def close(self) -> None:
        """Nothing more is asked."""


def expert_metadata(rate_hz: float, horizon: int) -> dict[str, Any]:
    """What the expert's chunks are, as a server says it."""
    position = {"interface": "position", "unit": "rad", "reference": "absolute"}
    gripper = {"interface": "gripper", "unit": "1", "reference": "absolute"}
    return {
        "model": "scripted expert",
        "action_rate_hz": rate_hz,
        "action_horizon": horizon,
        "action_dim": len(JOINTS),
        "action_names": list(JOINTS),
        "actions": [
            {"name": name, **(gripper if name == "gripper" else position)} for name in JOINTS
        ],
    }


class ExpertPolicy:
    """The scripted expert, which knows where the cubes are: the best that a policy can do."""

    needs_images = False

    def __init__(self, rate_hz: float = 10.0, horizon: int = 10) -> None:
        """Answer with chunks of `horizon` steps at `rate_hz`."""
        self.agreement = agree(parse_contract(expert_metadata(rate_hz, horizon)), arm_settings())
        self._step_s, self._horizon = 1.0 / rate_hz, horizon

    def answer(self, query: Query) -> Reply:
        """What the expert would do for the cube that the prompt names."""
        task = TASKS[query.task]
        cube = next((cube for cube in CUBES if task.prompt(cube) == query.prompt), None)
        if cube is None or query.scene is None:
            raise PolicyFailedError(f"the expert does not understand {query.prompt!r}")
        actions = chunk(task, cube, query.scene, horizon=self._horizon, step_s=self._step_s)
        return Reply(actions)

    def reset(self) -> None:
        """It has no memory."""

    def close(self) -> None:
        """It holds nothing."""

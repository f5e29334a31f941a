"""The scripted expert behind the interface of a policy server's connection, without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flash_transport.stats import CallStats
from openpi_flash_training.demonstrations.expert import chunk
from openpi_flash_training.evaluation.policy import expert_metadata
from openpi_flash_training.live.whole_chunks import WholeChunks
from sim_robot.robot import CUBES
from sim_robot.scene_state import SceneState
from sim_robot.tasks import TASKS

RATE_HZ, HORIZON = 10, 10


class ExpertConnection(WholeChunks):
    """Answers as a server would, but knows where the cubes are.

    Args:
        state: what is true in the scene now.
    """

    def __init__(self, state: Callable[[], SceneState]) -> None:
        self._state = state

    def infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None = None
    ) -> tuple[dict[str, Any], CallStats]:
        """The expert's chunk for what the prompt names."""
        del timeout
        prompt, state = observation.get("prompt"), self._state()
        for task in TASKS.values():
            for cube in CUBES:
                if task.prompt(cube) == prompt:
                    actions = chunk(task, cube, state, horizon=HORIZON, step_s=1.0 / RATE_HZ)
                    return {"actions": actions}, CallStats(0.0, 0.0, 0, 0, 0)
        raise ValueError(f"the expert does not understand the prompt {prompt!r}")

    def get_server_metadata(self) -> dict[str, Any]:
        """What its chunks are."""
        return expert_metadata(RATE_HZ, HORIZON)

    def reset(self) -> None:
        """It has no memory."""

    def close(self) -> None:
        """It holds nothing."""

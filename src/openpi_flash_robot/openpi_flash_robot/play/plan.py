"""A plan: the motion that a chunk has become, and when its steps are due."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.motion import Motion


@dataclass(frozen=True, eq=False)
class Plan:
    """What a chunk has become after splicing and limits.

    Attributes:
        motion: what is commanded, from the moment the chunk was taken until rest: what was
            commanded before, until the splice, then the chunk's steps.
        due_ns: when each step that is played is due, int64 [K], strictly increasing; K >= 1.
        step_ns: spacing of the chunk's steps.
        start_ns: when step 0 of the chunk is, or was, due.
        first_step: steps before this one were dropped, because they had passed.
        observation_ns: stamp of the oldest input behind it.
        sequence: of the chunk.
        limited_steps: at how many steps a limit keeps the motion off the chunk.
    """

    motion: Motion
    due_ns: NDArray[np.int64]
    step_ns: int
    start_ns: int
    first_step: int
    observation_ns: int
    sequence: int
    limited_steps: int

    @property
    def end_ns(self) -> int:
        """When the last step is due; after that the robot brakes, if it still moves, and holds."""
        return int(self.due_ns[-1])

    def steps_after(self, at_ns: int) -> int:
        """How many steps are still ahead."""
        return len(self.due_ns) - int(self.due_ns.searchsorted(at_ns, side="right"))

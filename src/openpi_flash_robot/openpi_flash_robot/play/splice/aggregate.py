"""LeRobot's aggregates: old and new steps mixed with a fixed weight wherever both chunks cover.

Source: `_aggregate_action_queues` in `src/lerobot/async_inference/robot_client.py` of
huggingface/lerobot, and the weights of `AGGREGATE_FUNCTIONS` in `configs.py` beside it. The old
value of a step is the one in the queue, so that it holds the mixtures of all chunks before. Steps
that only the new chunk covers are its own, and steps that have been played are dropped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openpi_flash_robot.play.splice.border import Border, Steps


def aggregate(new_weight: float) -> Callable[[Border], Steps]:
    """The method that gives the new chunk this weight, 0 to 1, and the old one the rest."""

    def join(border: Border) -> Steps:
        if border.joined is None:
            return border.own
        both = border.joined.covers(border.due_ns)[:, np.newaxis]
        mixed = (1.0 - new_weight) * border.joined.at(border.due_ns) + new_weight * border.own
        steps: Steps = np.where(both, mixed, border.own)
        return steps

    return join

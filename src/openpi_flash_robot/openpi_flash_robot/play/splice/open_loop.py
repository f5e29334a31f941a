"""`open_loop`: a chunk is played out before the next one begins, without a stop between.

Source: `ActionChunkBroker` of openpi-client plays `action_horizon` steps of a chunk, and asks for
the next one when they are played: the robot stands while it waits. Here the next one is asked for
earlier, and takes over at the moment at which the steps are played.
"""

from __future__ import annotations

import numpy as np

from openpi_flash_robot.nanoseconds import SECOND
from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.play.plan import Plan

RESERVE = 1.1
"""A motion brakes at its end with a little less than the whole acceleration."""


def played_out_ns(running: Plan, steps: int, limits: JointLimits) -> int:
    """When the next chunk takes over from a running plan.

    Args:
        running: the plan.
        steps: how many of its steps are played; 0 for all. Never so many that the robot brakes
            for the plan's end.
        limits: what every joint may do.
    """
    hardest = float((np.abs(running.motion.velocities) / limits.acceleration).max())
    braking_ns = round(RESERVE * hardest * SECOND)
    last = min(steps, len(running.due_ns)) or len(running.due_ns)
    return min(int(running.due_ns[last - 1]), running.end_ns - running.step_ns - braking_ns)

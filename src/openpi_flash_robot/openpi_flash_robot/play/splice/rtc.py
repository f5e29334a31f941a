"""`rtc` and `rtc_prefix`: the server makes the new chunk continue the one that the robot plays.

The request carries the rest of the running chunk, and how many of its steps will have been played
when the answer takes over. The methods differ in what the server does with them:

- `rtc` guides the denoising towards them, with any flow-matching checkpoint. Source: Black et al.
  2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv 2506.07339).
- `rtc_prefix` gives the steps that will have been played to the model as known, with a checkpoint
  that was trained with it. Source: Black et al. 2025, "Training-Time Action Conditioning for
  Efficient Real-Time Chunking" (arXiv 2512.05964).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.splice.timed_chunk import TimedChunk


@dataclass(frozen=True, eq=False)
class Continuation:
    """What a request says of the running chunk.

    Attributes:
        previous_actions: [n, N], rad or m; step i is for the moment of the new chunk's step i.
        delay: steps that will have been played when the new chunk takes over.
        execution_horizon: steps of the new chunk that will be played before the next one.
        is_prefix: whether the steps up to `delay` should be given to the model as known, where the
            server can.
    """

    previous_actions: NDArray[np.float64]
    delay: int
    execution_horizon: int
    is_prefix: bool = False


def continuation(
    running: TimedChunk,
    observation_ns: int,
    takes_over_ns: int,
    execution_horizon: int,
    *,
    is_prefix: bool = False,
) -> Continuation | None:
    """What is left of a chunk from an observation on; None if nothing is.

    Args:
        running: the chunk that is played.
        observation_ns: when step 0 of the new chunk is due.
        takes_over_ns: when the new chunk is expected to take over.
        execution_horizon: steps of it that will be played before the next one.
        is_prefix: see :class:`Continuation`.
    """
    left_ns = running.end_ns - observation_ns
    if left_ns < 0:
        return None
    moments_ns = observation_ns + np.arange(left_ns // running.step_ns + 1) * running.step_ns
    delay = -(-max(takes_over_ns - observation_ns, 0) // running.step_ns)
    return Continuation(
        previous_actions=running.at(moments_ns),
        delay=min(int(delay), len(moments_ns)),
        execution_horizon=execution_horizon,
        is_prefix=is_prefix,
    )

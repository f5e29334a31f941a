"""The fade from what was commanded before into a new chunk, and `latest`, which is no more.

Without it a difference between two chunks, however small, becomes a kick: the first step behind a
border may be due a millisecond later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.play.splice.border import Border, Steps


def take_newest(border: Border) -> Steps:
    """The new chunk as it is."""
    return border.own


def faded(
    before: Motion,
    begin_ns: int,
    due_ns: NDArray[np.int64],
    desired: NDArray[np.float64],
    blend_ns: int,
) -> NDArray[np.float64]:
    """Steps that are drawn towards what was commanded before, less and less.

    Args:
        before: what was commanded before.
        begin_ns: when the chunk takes over.
        due_ns: when its steps are due, [K].
        desired: the steps, [K, N], rad or m.
        blend_ns: after this time nothing of what was before is left.
    """
    result = desired.copy()
    for index, due in enumerate(due_ns.tolist()):
        if due - begin_ns >= blend_ns:
            break
        weight = (due - begin_ns) / blend_ns
        old = before.sample(due).positions
        result[index] = (1.0 - weight) * old + weight * desired[index]
    return result

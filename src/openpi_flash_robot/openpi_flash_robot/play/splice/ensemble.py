"""`temporal_ensemble`: the mean of all recent chunks that say something of a moment.

Source: Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware"
(arXiv 2304.13705), section IV-A: weights exp(-m i), where i = 0 is the oldest prediction. A
positive m trusts the oldest one most; m = 0 is the plain mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.splice.border import Border, Steps
from openpi_flash_robot.play.splice.timed_chunk import TimedChunk


def join_ensemble(border: Border) -> Steps:
    """The mean of the new chunk and the recent ones."""
    return ensemble(border.recent, border.due_ns, border.decay)


def ensemble(
    chunks: Sequence[TimedChunk], due_ns: NDArray[np.int64], decay: float
) -> NDArray[np.float64]:
    """The weighted mean of the chunks at each moment, [K, N].

    Args:
        chunks: oldest first; the last one covers every moment.
        due_ns: the moments, [K].
        decay: m, per chunk.
    """
    total = np.zeros((len(due_ns), chunks[-1].actions.shape[1]))
    weights = np.zeros((len(due_ns), 1))
    rank = np.zeros((len(due_ns), 1))  # of the next chunk among those that cover the moment
    for chunk in chunks:
        covered = chunk.covers(due_ns)[:, np.newaxis]
        weight = np.where(covered, np.exp(-decay * rank), 0.0)
        total += weight * chunk.at(due_ns)
        weights += weight
        rank += covered
    mean: NDArray[np.float64] = total / weights
    return mean

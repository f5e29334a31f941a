"""Actions relative to the state at the time of the observation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def delta_mask(*runs: int) -> tuple[bool, ...]:
    """Which dimensions are relative: ``delta_mask(6, -1)`` is six relative, then one absolute."""
    return tuple(flag for run in runs for flag in [run > 0] * abs(run))


def relative_actions(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool]) -> np.ndarray:
    """The inverse of :func:`absolute_actions`."""
    return absolute_actions(actions, -state, mask)


def absolute_actions(actions: np.ndarray, state: np.ndarray, mask: Sequence[bool]) -> np.ndarray:
    """Add the state to the relative dimensions of every step.

    Args:
        actions: [H, D].
        state: [S], at least as long as the mask; the same for all steps.
        mask: true where a dimension is relative; may be shorter than D.
    """
    n = len(mask)
    offset = np.where(mask, state[:n], 0.0)
    return np.concatenate([actions[..., :n] + offset, actions[..., n:]], axis=-1)

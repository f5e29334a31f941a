"""From the policy's numbers to those of the axes and back, by what each of them means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.settings.axis_play import AxisPlay, Reading


def of_axes(
    actions: NDArray[np.float64],
    axes: Sequence[AxisPlay],
    step_ns: int,
    observed: NDArray[np.float64],
    commanded: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The policy's numbers in the axes' units.

    Args:
        actions: [H, N], one column for each axis; may hold NaN.
        axes: how each is played.
        step_ns: spacing of the steps.
        observed: where each axis was when the observation was made, [N]; matters only to those
            that count from there.
        commanded: where each axis is commanded to be, [N], NaN where that is not known; matters
            only to a hand that may be told to stay.

    Returns:
        Where each axis should be, or how far it should go in each step, [H, N].
    """
    factors = [axis.scale * _seconds(axis, step_ns) for axis in axes]
    values: NDArray[np.float64] = actions * factors + [axis.offset for axis in axes]
    for column, axis in enumerate(axes):
        if axis.reading is Reading.FROM_OBSERVED:
            values[:, column] += observed[column]
        elif np.isfinite(axis.threshold):
            wholly = _opened_or_closed(values[:, column], axis)
            stays = actions[:, column] == axis.stays_at
            now = commanded[column] if np.isfinite(commanded[column]) else axis.open
            values[:, column] = _held(wholly, stays, float(now))
    return values


def left_out(
    values: NDArray[np.float64],
    unmoved: NDArray[np.bool_],
    rates: Sequence[bool],
    observed: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The values with the axes that nobody moves standing where they are: they limit no others.

    Args:
        values: [H, N] of `of_axes`.
        unmoved: [N], which axes these are.
        rates: [N], which columns say how far to go in each step.
        observed: where each axis was when the observation was made, [N].
    """
    return np.where(unmoved, np.where(np.asarray(rates), 0.0, observed), values)


def of_policy(
    values: NDArray[np.float64], axes: Sequence[AxisPlay], step_ns: int
) -> NDArray[np.float64]:
    """The inverse of `of_axes`, for axes that do not count from the observed state.

    Args:
        values: [H, N], in the axes' units.
        axes: how each is played.
        step_ns: spacing of the steps.
    """
    factors = [axis.scale * _seconds(axis, step_ns) for axis in axes]
    return (values - [axis.offset for axis in axes]) / factors


def positions(
    values: NDArray[np.float64],
    rates: Sequence[bool],
    *,
    start_ns: int,
    step_ns: int,
    begin_ns: int,
    begin: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Where the axes are to be at each step, so that what is said as a rate goes on from a moment.

    A rate leaves open where the axis is: its steps are laid end to end, through the position that
    is commanded when the chunk takes over.

    Args:
        values: [H, N] of `of_axes`.
        rates: [N], which columns say how far to go in each step.
        start_ns: when step 0 is due.
        step_ns: spacing of the steps.
        begin_ns: when the chunk takes over.
        begin: where the axes are commanded to be then, [N].
    """
    if not any(rates):
        return values
    way = np.cumsum(np.vstack([np.zeros(values.shape[1]), values]), axis=0)  # row 0: a step before
    elapsed = np.clip((begin_ns - start_ns) / step_ns + 1.0, 0.0, len(values))
    before = min(int(elapsed), len(values) - 1)
    gone = way[before] + (elapsed - before) * (way[before + 1] - way[before])
    return np.where(np.asarray(rates), begin + way[1:] - gone, values)


def _seconds(axis: AxisPlay, step_ns: int) -> float:
    return to_seconds(step_ns) if axis.reading is Reading.PER_SECOND else 1.0


def _held(
    values: NDArray[np.float64], stays: NDArray[np.bool_], begin: float
) -> NDArray[np.float64]:
    """Values [H] that repeat the one before where the hand stays; `begin` is before the first."""
    before = np.concatenate([[begin], values])
    last = np.maximum.accumulate(np.where(stays, 0, np.arange(1, len(values) + 1)))
    held: NDArray[np.float64] = before[last]
    return held


def _opened_or_closed(values: NDArray[np.float64], axis: AxisPlay) -> NDArray[np.float64]:
    """The hand opened wholly or closed; NaN stays, for the check that follows."""
    is_open = (values - axis.threshold) * (axis.open - axis.closed) >= 0.0
    wholly = np.where(is_open, axis.open, axis.closed)
    return np.where(np.isfinite(values), wholly, values)

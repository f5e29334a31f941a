"""The commands of an episode, and how much they jerk. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BORDER_S = 0.1
"""How long after a chunk has taken over the motion counts as its border: a fade takes so long."""


class MotionLog:
    """Keeps what the arm was told.

    Args:
        period_s: between two commands.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._velocities: list[Array] = []
        self._borders: list[int] = []

    def command(self, velocities: Array) -> None:
        """The arm is told to move so fast, rad/s, [N]."""
        self._velocities.append(np.array(velocities))

    def border(self) -> None:
        """A chunk takes over from one that runs."""
        self._borders.append(len(self._velocities))

    def jerks(self) -> tuple[float, float]:
        """Root mean square of the jerk over joints and time, and of that at borders, rad/s^3.

        NaN where there is none.
        """
        if len(self._velocities) < 3:
            return math.nan, math.nan
        jerk = np.diff(np.array(self._velocities), n=2, axis=0) / self._period_s**2
        near = np.zeros(len(jerk), np.bool_)
        for border in self._borders:
            near[max(border - 2, 0) : border + round(BORDER_S / self._period_s)] = True
        return _rms(jerk), _rms(jerk[near])


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else math.nan

"""Limits on commanded positions: one per class; each reports whether it changed a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Joints = NDArray[np.float64]
"""One value per joint, [N]."""


@dataclass(frozen=True)
class Limited:
    """What a limiter lets through.

    Attributes:
        positions: [N], rad or m.
        changed: whether it is anything but what was desired.
    """

    positions: Joints
    changed: bool


class Limit(Protocol):
    """Takes a desired position and lets through what is allowed."""

    def enforce(self, current: Joints, desired: Joints, dt: float) -> Limited:
        """What may be commanded `dt` seconds after `current`, as near to `desired` as allowed."""


class PositionLimit:
    """Keeps every joint between its lower and upper end."""

    def __init__(self, lower: Sequence[float], upper: Sequence[float]) -> None:
        self._lower = np.asarray(lower, dtype=np.float64)
        self._upper = np.asarray(upper, dtype=np.float64)

    def enforce(self, current: Joints, desired: Joints, dt: float) -> Limited:
        """Clip each joint by itself; where the robot is and how fast it goes does not matter."""
        del current, dt
        positions = np.clip(desired, self._lower, self._upper)
        return Limited(positions, not np.array_equal(positions, desired))


class VelocityLimit:
    """Keeps every joint's speed between two commands at or below its limit."""

    def __init__(self, max_velocity: Sequence[float]) -> None:
        self._max_velocity = np.asarray(max_velocity, dtype=np.float64)

    def enforce(self, current: Joints, desired: Joints, dt: float) -> Limited:
        """Cut each joint's step by itself, so that a slow joint does not hold up the others."""
        reach = self._max_velocity * dt
        delta = desired - current
        cut = np.clip(delta, -reach, reach)
        if np.array_equal(cut, delta):
            return Limited(desired, changed=False)
        return Limited(current + cut, changed=True)


class LimitChain:
    """Several limits, applied one after the other."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = tuple(limits)

    def enforce(self, current: Joints, desired: Joints, dt: float) -> Limited:
        """Pass the desired position through every limit."""
        changed = False
        for limit in self._limits:
            limited = limit.enforce(current, desired, dt)
            desired = limited.positions
            changed = changed or limited.changed
        return Limited(desired, changed)

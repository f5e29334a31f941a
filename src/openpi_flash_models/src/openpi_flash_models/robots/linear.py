"""A conversion that scales and shifts each number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Linear:
    """``scale * x + offset``, number by number along the last axis.

    Attributes:
        scale: [D].
        offset: [D].
    """

    scale: np.ndarray
    offset: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Convert [..., D]."""
        return values * self.scale + self.offset

    @property
    def inverse(self) -> Linear | None:
        """The inverse; None if a scale is zero, or too small to have one in float64."""
        if not self.scale.all():
            return None
        with np.errstate(over="ignore"):
            scale, offset = 1 / self.scale, -self.offset / self.scale
        return Linear(scale, offset) if np.isfinite([scale, offset]).all() else None


def scaling(*factors: float) -> tuple[Linear, Linear]:
    """A conversion that multiplies each number by a factor that is not zero, and its inverse."""
    scale, none = np.array(factors, np.float64), np.zeros(len(factors))
    return Linear(scale, none), Linear(1 / scale, none)

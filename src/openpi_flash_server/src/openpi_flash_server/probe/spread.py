"""Minimum, percentiles and maximum of a list of numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spread:
    """How measured values are distributed, in their own unit."""

    min: float
    p50: float
    p90: float
    p99: float
    max: float

    def as_json(self) -> dict[str, float]:
        """Its numbers by name, rounded to a thousandth."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def spread_of(values: Sequence[float]) -> Spread | None:
    """The spread of values; None if there is none.

    A percentile is a value that occurred: the smallest that at least so many percent of the values
    do not exceed.
    """
    if not values:
        return None
    ordered = sorted(values)

    def percentile(percent: int) -> float:
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    return Spread(ordered[0], percentile(50), percentile(90), percentile(99), ordered[-1])

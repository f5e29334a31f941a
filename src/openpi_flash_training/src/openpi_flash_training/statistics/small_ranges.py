"""Dimensions that normalisation would blow up: their range is near zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from openpi_flash_models.transforms.norm_stats import Scaling
from openpi_flash_models.transforms.normalize import normalize
from openpi_flash_training.statistics.measure import Measured, MeasuredField

SMALLEST_RANGE = 1e-4
"""Between the 1st and 99th percentile (or two deviations), in rad, m or shares: less is noise."""
LARGEST_NORMALISED = 20.0
"""Where the dataset's own extremes may lie after normalisation; the rest is within about 1."""


def range_warnings(measured: Measured, scaling: Scaling) -> Iterator[str]:
    """One line for each dimension that would be blown up.

    Args:
        measured: state and actions.
        scaling: that training will use.
    """
    for name, field in (("state", measured.state), ("actions", measured.actions)):
        yield from _field_warnings(name, field, scaling)


def _field_warnings(name: str, field: MeasuredField, scaling: Scaling) -> Iterator[str]:
    stats = field.stats
    assert stats.std is not None
    assert stats.q01 is not None
    assert stats.q99 is not None
    spans = 2 * stats.std if scaling == "mean_std" else stats.q99 - stats.q01
    what = "two deviations are" if scaling == "mean_std" else "the range q01 to q99 is"
    ends = normalize(np.stack([field.low, field.high]), stats, scaling)
    for i, (span, reach) in enumerate(zip(spans, abs(ends).max(axis=0), strict=True)):
        place = f"{name}[{i}] ({field.names[i]})"
        if span == 0:
            held = "; serving refuses such a state" if name == "state" else ""
            yield (
                f"{place}: {what} 0: it never moves, and any other value would be blown up by "
                f"{1 / stats.epsilon:.0e}{held}"
            )
        elif span < SMALLEST_RANGE:
            yield f"{place}: {what} {span:.2g}: the model would see noise at full size"
        elif reach > LARGEST_NORMALISED:
            yield (
                f"{place}: {what} {span:.2g}, but the data reach from {field.low[i]:.4g} to "
                f"{field.high[i]:.4g}: {reach:.0f} after normalisation"
            )

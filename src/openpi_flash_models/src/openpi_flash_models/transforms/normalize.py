"""Robot units to the range a model was trained on, and back.

Along the last axis; statistics longer than the data (padded by older exports) are cut, data longer
than the statistics (padding of the model) passes through. Nothing is clipped, as in openpi.
"""

from __future__ import annotations

import numpy as np

from openpi_flash_models.transforms.norm_stats import FieldStats

EPSILON = 1e-6


def normalize_zscore(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """Map the mean to 0 and one standard deviation to 1."""
    mean, deviation = _moments(stats, x.shape[-1])
    n = len(mean)
    return np.concatenate([(x[..., :n] - mean) / deviation, x[..., n:]], axis=-1)


def unnormalize_zscore(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """The way back from :func:`normalize_zscore`."""
    mean, deviation = _moments(stats, x.shape[-1])
    n = len(mean)
    return np.concatenate([x[..., :n] * deviation + mean, x[..., n:]], axis=-1)


def normalize_quantile(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """Map the 1st..99th percentile to -1..1."""
    low, span = _quantiles(stats, x.shape[-1])
    n = len(low)
    return np.concatenate([(x[..., :n] - low) / span * 2.0 - 1.0, x[..., n:]], axis=-1)


def unnormalize_quantile(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """The way back from :func:`normalize_quantile`."""
    low, span = _quantiles(stats, x.shape[-1])
    n = len(low)
    return np.concatenate([(x[..., :n] + 1.0) / 2.0 * span + low, x[..., n:]], axis=-1)


def _moments(stats: FieldStats, width: int) -> tuple[np.ndarray, np.ndarray]:
    return stats.mean[:width], stats.std[:width] + EPSILON


def _quantiles(stats: FieldStats, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The 1st percentile and the span to the 99th, for at most ``width`` dimensions."""
    if stats.q01 is None or stats.q99 is None:
        raise ValueError("the statistics hold no quantiles (q01, q99), which pi0.5 needs")
    low, high = stats.q01[:width], stats.q99[:width]
    return low, high - low + EPSILON

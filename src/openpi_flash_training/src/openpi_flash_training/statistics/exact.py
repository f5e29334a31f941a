"""Statistics without approximation: every row counts, in float64."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from openpi_flash_models.transforms.norm_stats import FieldStats


def exact_statistics(parts: Iterable[np.ndarray]) -> tuple[FieldStats, np.ndarray, np.ndarray]:
    """Mean, deviation and quantiles (linear between ranks) of all rows.

    Args:
        parts: arrays [..., D]; all rows are held in memory, in the type of the data.

    Returns:
        The statistics, and the least and the greatest of each dimension, [D].

    Raises:
        ValueError: there are fewer than two rows.
    """
    rows = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} rows have no statistics, 2 are the fewest")
    columns = [_column(rows[:, i].astype(np.float64)) for i in range(rows.shape[1])]
    mean, std, q01, q99, low, high = np.array(columns).T
    return FieldStats(mean=mean, std=std, q01=q01, q99=q99), low, high


def _column(values: np.ndarray) -> list[float]:
    q01, q99 = np.quantile(values, [0.01, 0.99])
    return [values.mean(), values.std(), q01, q99, values.min(), values.max()]

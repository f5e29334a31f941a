"""openpi's running statistics, to the last digit.

Source: ``RunningStats`` in ``openpi/shared/normalize.py``, under the numpy 1.26 that it pins.
"""

from __future__ import annotations

import numpy as np

from openpi_flash_models.transforms.norm_stats import FieldStats

BINS = 5000
_MARGIN = 1e-10
"""Added to both ends of the first batch's range; a later range has none."""


class RunningStatistics:
    """Mean, deviation and approximate quantiles of rows that come in batches.

    Three properties of openpi's are kept, since checkpoints were trained with them: mean and
    deviation are computed in the type of the data (float32 loses small deviations of large
    values), a quantile is the left edge of its bin, and counts can fall out of the histogram when
    the range grows.
    """

    def __init__(self) -> None:
        """Have seen no row."""
        self.count = 0
        self._mean = self._mean_of_squares = np.empty(0)
        self._low = self._high = np.empty(0)
        self._histograms = np.empty((0, BINS))
        self._edges = np.empty((0, BINS + 1))

    def update(self, batch: np.ndarray) -> None:
        """Count a batch.

        Args:
            batch: float [..., D]; every row counts.
        """
        rows = batch.reshape(-1, batch.shape[-1])
        low, high = rows.min(axis=0), rows.max(axis=0)
        mean, mean_of_squares = np.mean(rows, axis=0), np.mean(rows**2, axis=0)
        if self.count == 0:
            self._mean, self._mean_of_squares = mean.copy(), mean_of_squares.copy()
            self._low, self._high = low, high
            self._histograms = np.zeros((rows.shape[1], BINS))
            self._edges = _edges(low, high, _MARGIN)
        else:
            grew = (high > self._high).any() or (low < self._low).any()
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
            if grew:
                self._rebin()
        self.count += len(rows)
        share = len(rows) / self.count
        self._mean += (mean - self._mean) * share
        self._mean_of_squares += (mean_of_squares - self._mean_of_squares) * share
        for i, edges in enumerate(self._edges):
            self._histograms[i] += np.histogram(rows[:, i], bins=edges)[0]

    def result(self) -> FieldStats:
        """The statistics of all rows so far, float64 [D].

        Raises:
            ValueError: there are fewer than two rows.
        """
        if self.count < 2:
            raise ValueError(f"{self.count} rows have no statistics, 2 are the fewest")
        variance = self._mean_of_squares - self._mean**2
        return FieldStats(
            mean=self._mean.astype(np.float64),
            std=np.sqrt(np.maximum(0, variance)).astype(np.float64),
            q01=self._quantile(0.01),
            q99=self._quantile(0.99),
        )

    @property
    def low(self) -> np.ndarray:
        """The least of each dimension."""
        return self._low

    @property
    def high(self) -> np.ndarray:
        """The greatest of each dimension."""
        return self._high

    def _rebin(self) -> None:
        edges = _edges(self._low, self._high, 0.0)
        for i, counts in enumerate(self._histograms):
            left = self._edges[i][:-1]
            self._histograms[i] = np.histogram(left, bins=edges[i], weights=counts)[0]
        self._edges = edges

    def _quantile(self, quantile: float) -> np.ndarray:
        target = quantile * self.count
        at = [np.searchsorted(np.cumsum(counts), target) for counts in self._histograms]
        return np.array([edges[i] for edges, i in zip(self._edges, at, strict=True)])


def _edges(low: np.ndarray, high: np.ndarray, margin: float) -> np.ndarray:
    """Edges of the bins of each dimension, float64 [D, BINS + 1].

    float64 for float32 data, too: in float32 the margin would vanish, and with it up to 11 % of a
    range.
    """
    return np.stack(
        [
            np.linspace(float(a) - margin, float(b) + margin, BINS + 1)
            for a, b in zip(low, high, strict=True)
        ]
    )

"""LeRobot's statistics of features: of an episode, and of many taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_MOST_IMAGE_SIDE = 150
"""Images count by every n-th pixel so that the longer side has about this many."""
_FEWEST_SAMPLED_IMAGES = 100

Stats = dict[str, np.ndarray]


def number_stats(values: np.ndarray) -> Stats:
    """Statistics of numbers.

    Args:
        values: [T, *shape].

    Returns:
        ``min``, ``max``, ``mean``, ``std`` and quantiles, float64 [*shape]; ``count`` [1].
    """
    return _stats(values.astype(np.float64), len(values))


def sampled_frames(length: int) -> list[int]:
    """The frames whose images count: T^0.75 of T, at least 100, as in lerobot."""
    count = min(length, max(_FEWEST_SAMPLED_IMAGES, int(length**0.75)))
    return np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()


def small_image(image: np.ndarray) -> np.ndarray:
    """Every n-th pixel of an image, as many as count."""
    step = max(1, max(image.shape[:2]) // _MOST_IMAGE_SIDE)
    return image[::step, ::step]


def image_stats(images: Sequence[np.ndarray]) -> Stats:
    """Statistics of a camera's images, each channel for itself, in [0, 1].

    Args:
        images: uint8 [H, W, 3], those of :func:`sampled_frames`, by :func:`small_image`.

    Returns:
        As :func:`number_stats`, each [3, 1, 1].
    """
    stats = _channel_stats(np.concatenate([image.reshape(-1, image.shape[-1]) for image in images]))
    return {
        name: np.array([len(images)]) if name == "count" else value.reshape(-1, 1, 1)
        for name, value in stats.items()
    }


def combine(parts: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, Stats]:
    """Statistics of several episodes or datasets together.

    Mean and deviation are exact. Quantiles cannot be: as in lerobot, the least of the lower ones
    and the greatest of the upper ones bound them.

    Args:
        parts: statistics by feature.
    """
    return {key: _combine_feature([p[key] for p in parts if key in p]) for key in _keys(parts)}


def to_lists(stats: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    """Statistics as JSON and parquet files have them."""
    return {k: {name: v.tolist() for name, v in s.items()} for k, s in stats.items()}


def from_lists(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, Stats]:
    """The reverse of :func:`to_lists`."""
    return {
        key: {name: np.atleast_1d(np.asarray(value)) for name, value in feature.items()}
        for key, feature in stats.items()
    }


def _stats(values: np.ndarray, count: int) -> Stats:
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([count]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def _channel_stats(pixels: np.ndarray) -> Stats:
    """Statistics of bytes by counting them, [N, 3] -> [3] in [0, 1]."""
    levels = np.arange(256) / 255.0
    counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
    total = len(pixels)
    mean = counts @ levels / total
    below = np.cumsum(counts, axis=1)
    seen = counts > 0
    return {
        "min": levels[seen.argmax(axis=1)],
        "max": levels[255 - seen[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0)),
        "count": np.array([total]),
        **{name: levels[(below >= q * total).argmax(axis=1)] for name, q in QUANTILES.items()},
    }


def _keys(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part))


def _combine_feature(parts: Sequence[Mapping[str, np.ndarray]]) -> Stats:
    counts = np.array([float(part["count"][0]) for part in parts])
    total = counts.sum()
    means = np.stack([part["mean"] for part in parts])
    weights = (counts / total).reshape(-1, *[1] * (means.ndim - 1))
    mean = (weights * means).sum(axis=0)
    spread = np.stack([part["std"] for part in parts]) ** 2 + (means - mean) ** 2
    combined: Stats = {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt((weights * spread).sum(axis=0)),
        "count": np.array([int(total)]),
    }
    for name, q in QUANTILES.items():
        if all(name in part for part in parts):
            bound = np.min if q <= 0.5 else np.max
            combined[name] = bound([part[name] for part in parts], axis=0)
    return combined

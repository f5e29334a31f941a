"""Scales robot units to the range a model was trained on, and back.

Source: ``Normalize`` and ``Unnormalize`` in ``openpi/transforms.py``. They work along the last
axis; statistics longer than the data (padded by older exports) are cut, data longer than the
statistics (padding of the model) passes through. Nothing is clipped, as in openpi.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from openpi_flash_models.errors import CheckpointError, InferenceConfigError
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats, Scaling

NormalizationChoice = Literal["auto", "quantile", "mean_std"]


@dataclass(frozen=True)
class Normalization:
    """How state and actions are scaled.

    Attributes:
        state: of the robot's state.
        actions: of the robot's actions.
    """

    state: Scaling
    actions: Scaling


def choose_normalization(
    wanted: NormalizationChoice, stats: NormStats, default: Scaling, needed_by: str
) -> Normalization:
    """The scaling of each field.

    Args:
        wanted: ``auto`` takes what the statistics' own file says, else ``default``.
        stats: of the checkpoint.
        default: of the config.
        needed_by: what to call the model in an error.

    Raises:
        InferenceConfigError: there is no such choice.
        CheckpointError: the statistics lack what the scaling needs.
    """
    if wanted not in get_args(NormalizationChoice):
        known = ", ".join(get_args(NormalizationChoice))
        raise InferenceConfigError(f"normalization is {wanted!r}, expected one of {known}")
    if wanted == "auto":
        chosen = Normalization(stats.state.scaling or default, stats.actions.scaling or default)
    else:
        chosen = Normalization(wanted, wanted)
    for name, field, scaling in (
        ("state", stats.state, chosen.state),
        ("actions", stats.actions, chosen.actions),
    ):
        if not field.supports(scaling):
            raise CheckpointError(
                f"{stats.source} has no {_NEEDS[scaling]} of the {name}, which {needed_by} needs "
                f"with normalization {scaling}"
            )
    return chosen


def refuse_still_state(stats: NormStats, scaling: Scaling, size: int) -> None:
    """Refuse statistics in which a dimension of the state never moved.

    The divisor would be ``epsilon``: a state that differs by a thousandth would reach the model as
    a thousand. Actions without a range are harmless, they become their mean.

    Args:
        stats: of the checkpoint.
        scaling: of the state.
        size: how many dimensions the robot's state has; padding behind them is left alone.

    Raises:
        CheckpointError: names the dimension and what to do.
    """
    field, by_mean = stats.state, scaling == "mean_std"
    low, high = (field.mean, field.std) if by_mean else (field.q01, field.q99)
    if low is None or high is None:
        return
    still = (high if by_mean else high - low)[:size] == 0
    if not still.any():
        return
    at = int(np.argmax(still))
    name, instead = (f"state.std[{at}]", 1.0) if by_mean else (f"state.q99[{at}]", low[at] + 1.0)
    raise CheckpointError(
        f"{stats.source}: {name} is {high[at]:g}{'' if by_mean else ', as q01'}: the recordings "
        "never moved this dimension of the state, and any other value would blow up; compute the "
        f"statistics where it moves, or set {name} to {instead:g} if the robot never moves it"
    )


def normalize(x: np.ndarray, stats: FieldStats, scaling: Scaling) -> np.ndarray:
    """Robot units to the model's range."""
    return (normalize_zscore if scaling == "mean_std" else normalize_quantile)(x, stats)


def unnormalize(x: np.ndarray, stats: FieldStats, scaling: Scaling) -> np.ndarray:
    """The inverse of :func:`normalize`."""
    return (unnormalize_zscore if scaling == "mean_std" else unnormalize_quantile)(x, stats)


def normalize_zscore(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """Map the mean to 0 and one standard deviation to 1."""
    mean, deviation = _moments(stats, x.shape[-1])
    n = len(mean)
    return np.concatenate([(x[..., :n] - mean) / deviation, x[..., n:]], axis=-1)


def unnormalize_zscore(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """The inverse of :func:`normalize_zscore`."""
    mean, deviation = _moments(stats, x.shape[-1])
    n = len(mean)
    return np.concatenate([x[..., :n] * deviation + mean, x[..., n:]], axis=-1)


def normalize_quantile(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """Map the 1st..99th percentile to -1..1."""
    low, span = _quantiles(stats, x.shape[-1])
    n = len(low)
    return np.concatenate([(x[..., :n] - low) / span * 2.0 - 1.0, x[..., n:]], axis=-1)


def unnormalize_quantile(x: np.ndarray, stats: FieldStats) -> np.ndarray:
    """The inverse of :func:`normalize_quantile`."""
    low, span = _quantiles(stats, x.shape[-1])
    n = len(low)
    return np.concatenate([(x[..., :n] + 1.0) / 2.0 * span + low, x[..., n:]], axis=-1)


def _moments(stats: FieldStats, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation, for at most ``width`` dimensions."""
    if stats.mean is None or stats.std is None:
        raise ValueError("the statistics hold no mean and std")
    return stats.mean[:width], stats.std[:width] + stats.epsilon


def _quantiles(stats: FieldStats, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The 1st percentile and the span to the 99th, for at most ``width`` dimensions."""
    if stats.q01 is None or stats.q99 is None:
        raise ValueError("the statistics hold no quantiles (q01, q99)")
    low, high = stats.q01[:width], stats.q99[:width]
    return low, high - low + stats.epsilon


_NEEDS: dict[Scaling, str] = {"mean_std": "mean and std", "quantile": "q01 and q99"}

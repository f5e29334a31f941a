"""Normalisation statistics of state and actions, and openpi's file of them.

``norm_stats.json`` is what openpi's ``compute_norm_stats.py`` writes
(``openpi/shared/normalize.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import read_json

Scaling = Literal["mean_std", "quantile"]
OPENPI_EPSILON = 1e-6
FILE_NAME = "norm_stats.json"


@dataclass(frozen=True)
class FieldStats:
    """Statistics of one field, float64 [D]; D is the robot's, or the model's where padded.

    Attributes:
        mean: for ``mean_std``; None where the file has none.
        std: likewise.
        q01: 1st percentile, for ``quantile``; or the value that a LeRobot checkpoint maps to -1
            instead (the 10th percentile, the minimum). None where the file has none.
        q99: 99th percentile; or the value that is mapped to 1 instead.
        epsilon: added to the divisor.
        scaling: the field's scaling by the checkpoint; None: the checkpoint does not say.
    """

    mean: np.ndarray | None
    std: np.ndarray | None
    q01: np.ndarray | None
    q99: np.ndarray | None
    epsilon: float = OPENPI_EPSILON
    scaling: Scaling | None = None

    @property
    def size(self) -> int:
        """Number of dimensions."""
        return next(len(v) for v in (self.mean, self.std, self.q01, self.q99) if v is not None)

    def supports(self, scaling: Scaling) -> bool:
        """Whether the statistics that a scaling needs are there."""
        needed = (self.mean, self.std) if scaling == "mean_std" else (self.q01, self.q99)
        return all(values is not None for values in needed)


@dataclass(frozen=True)
class NormStats:
    """Statistics of the state and of the actions.

    Attributes:
        state: of the robot's state.
        actions: of the robot's actions.
        source: where they were found, for messages.
    """

    state: FieldStats
    actions: FieldStats
    source: str = FILE_NAME


def read_norm_stats(checkpoint: Path, asset_id: str) -> NormStats:
    """Read ``<checkpoint>/assets/<asset_id>/norm_stats.json``.

    Raises:
        CheckpointError: the file is missing or malformed.
    """
    file = checkpoint / "assets" / asset_id / FILE_NAME
    try:
        return read_norm_stats_file(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: {_hint(checkpoint)}") from None


def read_norm_stats_file(file: Path) -> NormStats:
    """Read a ``norm_stats.json``, wherever it is.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is malformed.
    """
    try:
        fields = read_json(file, f"a {FILE_NAME}")["norm_stats"]
        state, actions = (_parse(fields[name], name) for name in ("state", "actions"))
        return NormStats(state, actions, str(file))
    except KeyError as error:
        raise CheckpointError(f"{file} is not a {FILE_NAME}: it lacks {error}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CheckpointError(f"{file} is not a {FILE_NAME}: {error}") from error


def asset_ids(checkpoint: Path) -> list[str]:
    """The asset ids of which a checkpoint has openpi's statistics."""
    assets = checkpoint / "assets"
    return sorted(file.parent.relative_to(assets).as_posix() for file in assets.rglob(FILE_NAME))


def _parse(field: Mapping[str, Any], place: str) -> FieldStats:
    def array(name: str) -> np.ndarray:
        values = np.asarray(field[name], np.float64)
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(f"{place}.{name} is not a list of finite numbers")
        return values

    has_quantiles = field.get("q01") is not None and field.get("q99") is not None
    mean, std = array("mean"), array("std")
    low, high = (array("q01"), array("q99")) if has_quantiles else (None, None)
    sizes = {len(v) for v in (mean, std, low, high) if v is not None}
    if len(sizes) != 1:
        raise ValueError(f"the lists of {place} have different lengths: {sorted(sizes)}")
    refuse_backward(std, low, high, place)
    return FieldStats(mean, std, low, high)


def refuse_backward(
    std: np.ndarray | None, low: np.ndarray | None, high: np.ndarray | None, place: str
) -> None:
    """Refuse a negative deviation, and a percentile above the one that should be the higher.

    Args:
        std: deviations, [D]; None where there are none.
        low: the lower percentiles, [D], likewise.
        high: the higher ones.
        place: what they are statistics of.

    Raises:
        ValueError: names the dimension and the values.
    """
    if std is not None and (std < 0).any():
        at = int(np.argmax(std < 0))
        raise ValueError(f"{place}.std[{at}] is {std[at]:g}, which no deviation can be")
    if low is not None and high is not None and (low > high).any():
        at = int(np.argmax(low > high))
        raise ValueError(
            f"{place}: the lower percentile of dimension {at} is {low[at]:g}, above the higher "
            f"one, {high[at]:g}"
        )


def _hint(checkpoint: Path) -> str:
    there = asset_ids(checkpoint)
    if there:
        return f"the checkpoint has statistics for {', '.join(there)}"
    elsewhere = sorted(checkpoint.glob(f"*/{FILE_NAME}")) + sorted(checkpoint.glob(FILE_NAME))
    if elsewhere:
        return f"there is {elsewhere[0]}, move it there"
    return "the checkpoint has no statistics at all"

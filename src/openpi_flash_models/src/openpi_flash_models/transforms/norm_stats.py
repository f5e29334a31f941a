"""``norm_stats.json``: the statistics that a checkpoint's inputs and outputs are scaled by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openpi_flash_models.errors import CheckpointError


@dataclass(frozen=True)
class FieldStats:
    """Statistics of one field, float64 [D]; D is the robot's, or the model's where padded.

    Attributes:
        mean: for z-scores (pi0).
        std: for z-scores (pi0).
        q01: 1st percentile, None in files of models that do not use it.
        q99: 99th percentile.
    """

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray | None
    q99: np.ndarray | None


@dataclass(frozen=True)
class NormStats:
    """Statistics of the state and of the actions."""

    state: FieldStats
    actions: FieldStats


def read_norm_stats(checkpoint: Path, asset_id: str) -> NormStats:
    """Read ``<checkpoint>/assets/<asset_id>/norm_stats.json``.

    Raises:
        CheckpointError: the file is missing or is not what it should be.
    """
    file = checkpoint / "assets" / asset_id / "norm_stats.json"
    try:
        fields = json.loads(file.read_text())["norm_stats"]
        return NormStats(_parse(fields["state"]), _parse(fields["actions"]))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: {_hint(checkpoint)}") from None
    except KeyError as error:
        raise CheckpointError(f"{file} is not a norm_stats.json: it lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is not a norm_stats.json: {error}") from error


def _parse(field: Mapping[str, Any]) -> FieldStats:
    def array(name: str) -> np.ndarray:
        values = np.asarray(field[name], np.float64)
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(f"{name} is not a list of finite numbers")
        return values

    has_quantiles = field.get("q01") is not None and field.get("q99") is not None
    stats = FieldStats(
        array("mean"),
        array("std"),
        array("q01") if has_quantiles else None,
        array("q99") if has_quantiles else None,
    )
    sizes = {len(v) for v in (stats.mean, stats.std, stats.q01, stats.q99) if v is not None}
    if len(sizes) != 1:
        raise ValueError(f"its lists have different lengths: {sorted(sizes)}")
    return stats


def _hint(checkpoint: Path) -> str:
    there = sorted(
        str(path.parent.relative_to(checkpoint / "assets"))
        for path in (checkpoint / "assets").rglob("norm_stats.json")
    )
    if there:
        return f"the checkpoint has statistics for {', '.join(there)}"
    return "the checkpoint has no statistics at all"

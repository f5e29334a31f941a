"""Writes ``norm_stats.json`` where training and serving look for it."""

from __future__ import annotations

from pathlib import Path

from openpi_flash_models.transforms.norm_stats import FILE_NAME, FieldStats
from openpi_flash_training.dataset.layout import write_json
from openpi_flash_training.statistics.measure import Measured


def norm_stats_path(directory: Path, asset_id: str) -> Path:
    """``<directory>/assets/<asset_id>/norm_stats.json``."""
    return directory / "assets" / asset_id / FILE_NAME


def write_norm_stats(path: Path, measured: Measured) -> None:
    """Write openpi's file of statistics.

    Raises:
        DataError: it cannot be written.
    """
    fields = {"state": measured.state.stats, "actions": measured.actions.stats}
    write_json(path, {"norm_stats": {name: _lists(stats) for name, stats in fields.items()}})


def _lists(stats: FieldStats) -> dict[str, list[float]]:
    arrays = {"mean": stats.mean, "std": stats.std, "q01": stats.q01, "q99": stats.q99}
    return {name: array.tolist() for name, array in arrays.items() if array is not None}

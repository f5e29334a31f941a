"""Labels of the extra losses, out of a dataset's columns.

    points      [C, O, 2]  x, y of each object in pixels of the camera's picture
    visible     [C, O]     share of an object that the camera sees; 0: it does not
    positions   [K], or [V, K] with one row for each prompt: where the object is that it names

C are the robot's cameras in its order. See ``extra_losses`` for what a batch has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openpi_flash_models.transforms.images import scaled_size
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.train.problem import SettingsError

POINTS, VISIBLE, POSITIONS = "points", "visible", "positions"
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class LabelColumns:
    """Where the labels are.

    Attributes:
        points: column; None: no detection loss.
        visible: column; None: objects are always visible.
        positions: column; None: no position loss.
        cameras: the model's slots in the order of the robot's cameras.
        middle: [K], subtracted from positions.
        deviation: positions are divided by.
    """

    points: str | None
    visible: str | None
    positions: str | None
    cameras: tuple[str, ...]
    middle: tuple[float, ...] = ()
    deviation: float = 1.0

    @property
    def names(self) -> list[str]:
        """Every column that is read."""
        return [name for name in (self.points, self.visible, self.positions) if name is not None]


def check_labels(
    columns: LabelColumns,
    features: Mapping[str, Feature],
    *,
    objects: int,
    coordinates: int,
    prompts: int,
) -> None:
    """Check that the columns fit the losses.

    Args:
        columns: of the settings.
        features: of the dataset.
        objects: O.
        coordinates: K.
        prompts: V; 0: the dataset's own.

    Raises:
        SettingsError: names the column.
    """
    cameras = len(columns.cameras)
    wanted = {
        POINTS: (columns.points, (cameras, objects, 2)),
        VISIBLE: (columns.visible, (cameras, objects)),
        POSITIONS: (columns.positions, (prompts, coordinates) if prompts else (coordinates,)),
    }
    for what, needed in ((POINTS, objects), (POSITIONS, coordinates)):
        if needed and wanted[what][0] is None:
            raise SettingsError(
                f"loss.extra: needs labels; name their column by data.labels.{what}"
            )
    for what, (column, shape) in wanted.items():
        if column is None:
            continue
        if column not in features:
            raise SettingsError(f"data.labels.{what}: the dataset has no column {column}")
        if features[column].shape != shape:
            raise SettingsError(
                f"data.labels.{what}: the column {column} has the shape "
                f"{list(features[column].shape)}, expected {list(shape)}"
            )


def standardisation(stats: Mapping[str, Any]) -> tuple[tuple[float, ...], float]:
    """Mean [K] of positions over all prompts, and their deviation over all coordinates.

    The deviation is one for all, as the unit is: the height of objects that lie on a table would
    else count as much as where on it they lie, and teach nothing but noise.

    Args:
        stats: LeRobot's of the column: ``mean`` and ``std``, [K] or [V, K].
    """
    means = np.atleast_2d(np.asarray(stats["mean"], np.float64))
    deviations = np.atleast_2d(np.asarray(stats["std"], np.float64))
    middle = means.mean(0)
    spread = math.sqrt(float((deviations**2 + (means - middle) ** 2).mean()))
    return tuple(middle.tolist()), max(spread, _LEAST_DEVIATION)


def labels_of(
    columns: LabelColumns,
    numbers: Mapping[str, np.ndarray],
    frame: int,
    *,
    prompt: int,
    pictures: Mapping[str, tuple[int, int]],
    side: int,
) -> dict[str, Any]:
    """The labels of a sample.

    Args:
        columns: where they are.
        numbers: of the episode, by column.
        frame: of the episode.
        prompt: which of the prompts the sample has.
        pictures: height and width of each slot's picture in the dataset.
        side: of the model's images.
    """
    labels: dict[str, Any] = {}
    if columns.points is not None:
        points = numbers[columns.points][frame].astype(np.float32)
        if columns.visible is not None:
            points[numbers[columns.visible][frame] <= 0] = np.nan
        labels["points"] = {
            slot: as_shares(points[columns.cameras.index(slot)], size, side)
            for slot, size in pictures.items()
        }
    if columns.positions is not None:
        position = np.atleast_2d(numbers[columns.positions][frame])[prompt]
        standard = (position - np.asarray(columns.middle)) / columns.deviation
        labels["position"] = standard.astype(np.float32)
    return labels


def as_shares(points: np.ndarray, picture: tuple[int, int], side: int) -> np.ndarray:
    """Pixels of a picture [..., 2] as shares of the square image that it is scaled into."""
    height, width = picture
    rows, columns = scaled_size(height, width, side, side)
    left, top = (side - columns) // 2, (side - rows) // 2
    scale = np.array([columns / width, rows / height], np.float32)
    shares: np.ndarray = (points * scale + np.array([left, top], np.float32)) / np.float32(side)
    return shares

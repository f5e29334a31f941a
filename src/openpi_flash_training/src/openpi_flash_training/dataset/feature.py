"""Features: the columns of a dataset, as ``meta/info.json`` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openpi_flash_training.episodes.error import DataError

IMAGE_TYPES = ("image", "video")
NUMBER_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


@dataclass(frozen=True)
class Feature:
    """One column.

    Attributes:
        dtype: a numpy type of numbers, ``string``, ``image`` (PNG inside the parquet file) or
            ``video`` (MP4 beside it).
        shape: of one frame: ``(14,)``; ``(height, width, 3)`` of a camera; ``(1,)`` of a scalar.
        names: one for each entry of a vector; empty where nobody named them.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether it is a camera."""
        return self.dtype in IMAGE_TYPES

    @property
    def is_text(self) -> bool:
        """Whether it holds strings."""
        return self.dtype == "string"

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers."""
        return self.dtype in NUMBER_TYPES


INDEX_FEATURES = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}
"""Columns that every dataset has: the writer fills them."""


def check_features(folder: Path, features: Mapping[str, Feature]) -> None:
    """Check the features that a user asks for.

    Raises:
        DataError: one is named like an index column, or has a type or shape that LeRobot lacks.
    """
    for key, feature in features.items():
        problem = None
        if key in INDEX_FEATURES:
            problem = "is a column that the writer fills; leave it out"
        elif not key or "/" in key:
            problem = "is not a name of a feature: it is empty or has a slash"
        elif feature.dtype not in (*NUMBER_TYPES, *IMAGE_TYPES, "string"):
            known = ", ".join((*NUMBER_TYPES, *IMAGE_TYPES, "string"))
            problem = f"has the type {feature.dtype!r}; known are {known}"
        elif not feature.shape or min(feature.shape) < 1:
            problem = f"has the shape {feature.shape}; a scalar is (1,)"
        elif feature.is_image and (len(feature.shape) != 3 or feature.shape[2] != 3):
            problem = f"has the shape {feature.shape}; a camera is (height, width, 3)"
        elif feature.is_text and feature.shape != (1,):
            problem = f"has the shape {feature.shape}; a text is (1,)"
        elif len(feature.shape) > 5:
            problem = f"has {len(feature.shape)} dimensions; 5 is the most"
        elif feature.is_number and feature.names and len(feature.names) != feature.shape[0]:
            problem = f"has {len(feature.names)} names for the shape {feature.shape}"
        if problem:
            raise DataError(folder, f"the feature {key} {problem}")


def fit_numbers(feature: Feature, values: Any, length: int) -> np.ndarray:
    """The numbers of an episode in a feature's type and shape.

    Args:
        feature: says type and shape.
        values: [T, *shape]; [T] is enough for a scalar.
        length: T.

    Returns:
        [T, *shape] of the feature's dtype.

    Raises:
        ValueError: another shape or type, or a value that is not finite.
    """
    array = np.asarray(values)
    expected = (length, *feature.shape)
    if feature.shape == (1,) and array.shape == (length,):
        array = array[:, None]
    if array.shape != expected:
        raise ValueError(f"has the shape {array.shape}, not {expected}")
    if not np.can_cast(array.dtype, feature.dtype, "same_kind"):
        raise ValueError(f"is {array.dtype}, which does not fit {feature.dtype}")
    with np.errstate(over="ignore"):
        cast = array.astype(feature.dtype, copy=False)
    if cast.dtype.kind == "f":
        bad = np.argwhere(~np.isfinite(cast))
        if len(bad):
            frame, *entry = (int(i) for i in bad[0])
            name = feature.names[entry[0]] if feature.names else ", ".join(map(str, entry))
            raise ValueError(f"[{name}] is {array[tuple(bad[0])]} at frame {frame}")
    return cast


def describe(feature: Feature, video: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A feature as ``meta/info.json`` has it.

    Args:
        feature: to be described.
        video: ``video.*`` facts of a camera that is stored as video.
    """
    names: list[str] | None = list(feature.names) or None
    if feature.is_image:
        names = ["height", "width", "channels"]
    described: dict[str, Any] = {
        "dtype": feature.dtype,
        "shape": list(feature.shape),
        "names": names,
    }
    if feature.dtype == "video" and video is not None:
        described["info"] = dict(video)
    return described


def parse_feature(path: Path, key: str, described: Any) -> Feature:
    """A feature out of ``meta/info.json``.

    Raises:
        DataError: it is not one.
    """
    try:
        shape = tuple(int(size) for size in described["shape"])
        feature = Feature(str(described["dtype"]), shape, _flat_names(described.get("names")))
        if feature.is_image:
            names = described.get("names") or []
            if list(names)[:1] == ["channels"] or (shape[0] == 3 and shape[-1] != 3):
                # older datasets have the channels first in the description, never in the file
                shape = (*shape[1:], shape[0])
            return Feature(feature.dtype, shape)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(path, f"the feature {key} is malformed: {error!r}") from error
    if feature.is_number and len(feature.names) != shape[0]:
        return Feature(feature.dtype, shape)
    return feature


def _flat_names(names: Any) -> tuple[str, ...]:
    """Names of a vector: a list, or LeRobot's older ``{"motors": [...]}``."""
    if isinstance(names, Mapping):
        values = list(names.values())
        if all(isinstance(value, list) for value in values):
            return tuple(str(name) for value in values for name in value)
        return tuple(str(name) for name in names)
    return tuple(str(name) for name in names or ())

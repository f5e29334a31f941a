"""The frames of an episode as an Arrow table, and back.

Types are those that the ``datasets`` library of Hugging Face gives LeRobot's features: a scalar, a
list of fixed length, nested lists, or a struct of PNG bytes and path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openpi_flash_training.dataset.feature import INDEX_FEATURES, Feature
from openpi_flash_training.episodes.error import DataError

PNG_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def frame_schema(features: Mapping[str, Feature]) -> pa.Schema:
    """Schema of the data files; cameras that are stored as video have no column."""
    columns = {k: f for k, f in {**features, **INDEX_FEATURES}.items() if f.dtype != "video"}
    described = {key: _hugging_face_type(feature) for key, feature in columns.items()}
    return pa.schema(
        [(key, _arrow_type(feature)) for key, feature in columns.items()],
        metadata={"huggingface": json.dumps({"info": {"features": described}})},
    )


def frame_table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """A table of one episode.

    Args:
        schema: of the dataset.
        columns: numbers [T, *shape], lists of strings, or lists of PNG bytes, by key.
    """
    return pa.table([_to_arrow(f.type, columns[f.name]) for f in schema], schema=schema)


def numbers_of(path: Path, key: str, feature: Feature, column: pa.ChunkedArray) -> np.ndarray:
    """Numbers [T, *shape] out of a column.

    Raises:
        DataError: the column has gaps, or not the shape that the dataset says.
    """
    length = len(column)
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    while pa.types.is_nested(values.type):
        if values.null_count:
            raise DataError(path, f"{key} has {values.null_count} frames without a value")
        values = values.flatten()
    if values.null_count:
        raise DataError(path, f"{key} has {values.null_count} frames without a value")
    array = values.to_numpy(zero_copy_only=False)
    expected = (length, *feature.shape)
    if array.size != np.prod(expected):
        raise DataError(
            path, f"{key} has {array.size} numbers in {length} frames, not {feature.shape} a frame"
        )
    return array.astype(feature.dtype, copy=False).reshape(expected)


def _arrow_type(feature: Feature) -> pa.DataType:
    if feature.is_image:
        return PNG_TYPE
    if feature.is_text:
        return pa.string()
    scalar = pa.bool_() if feature.dtype == "bool" else pa.from_numpy_dtype(feature.dtype)
    if feature.shape == (1,):
        return scalar
    if len(feature.shape) == 1:
        return pa.list_(scalar, feature.shape[0])
    for _ in feature.shape:
        scalar = pa.list_(scalar)
    return scalar


def _hugging_face_type(feature: Feature) -> dict[str, Any]:
    if feature.is_image:
        return {"_type": "Image"}
    value = {"dtype": feature.dtype, "_type": "Value"}
    if feature.shape == (1,):
        return value
    if len(feature.shape) == 1:
        return {"feature": value, "length": feature.shape[0], "_type": "Sequence"}
    return {
        "shape": list(feature.shape),
        "dtype": feature.dtype,
        "_type": f"Array{len(feature.shape)}D",
    }


def _to_arrow(kind: pa.DataType, values: Any) -> pa.Array:
    if kind == PNG_TYPE:
        return pa.array([{"bytes": png, "path": None} for png in values], kind)
    if pa.types.is_string(kind):
        return pa.array(list(values), kind)
    if not pa.types.is_nested(kind):
        return pa.array(values.reshape(-1), kind)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    array = pa.array(values.reshape(-1))
    for axis in reversed(range(1, values.ndim)):
        rows = int(np.prod(values.shape[:axis]))
        offsets = np.arange(rows + 1, dtype=np.int32) * values.shape[axis]
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array

"""Leaves of a model's tree: how they are named, cast and nested, whatever file they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # registers bfloat16 with numpy
import numpy as np

LeafPath = tuple[str, ...]

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class LazyLeaf:
    """A tensor that is still in its file.

    Attributes:
        shape: of the tensor.
        dtype: as stored.
        load: reads it as another type.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[np.dtype[Any]], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size as stored."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def read(self, dtype: str | None = None) -> np.ndarray:
        """The tensor, in memory of its own.

        Args:
            dtype: ``float32`` or ``bfloat16`` to cast floating numbers to; None keeps the type.

        Raises:
            CheckpointError: it cannot be read.
        """
        return self.load(self.dtype if dtype is None else cast_type(self.dtype, DTYPES[dtype]))


def cast_type(stored: np.dtype[Any], wanted: np.dtype[Any]) -> np.dtype[Any]:
    """What a tensor becomes: only floating numbers are cast."""
    is_float = np.issubdtype(stored, np.floating) or stored == ml_dtypes.bfloat16
    return wanted if is_float else stored


def nest(leaves: Mapping[LeafPath, Any]) -> dict[str, Any]:
    """The nested dictionary of a flat one."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = leaf
    return tree

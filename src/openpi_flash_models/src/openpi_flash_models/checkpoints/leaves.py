"""Leaves of a model's tree, from any file format: names, casts and nesting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    """A tensor that is not read from its file yet.

    Attributes:
        shape: of the tensor.
        dtype: as stored.
        load: reads a slice of the first axis (None: the whole tensor) as a given type.
        step: how much of the first axis the file holds in one piece; pieces of
            that size are read one by one.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[np.dtype[Any], slice | None], np.ndarray]
    step: int

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
        return self.load(self._type(dtype), None)

    def layers(self, dtype: str | None = None) -> Iterator[np.ndarray]:
        """The parts along the first axis in order, with few in memory where the file allows.

        Args:
            dtype: as for :meth:`read`.

        Raises:
            CheckpointError: one cannot be read.
        """
        for first in range(0, self.shape[0], self.step):
            yield from self.load(self._type(dtype), slice(first, first + self.step))

    def _type(self, dtype: str | None) -> np.dtype[Any]:
        return self.dtype if dtype is None else cast_type(self.dtype, DTYPES[dtype])


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

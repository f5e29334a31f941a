"""What a run will train, and what memory it needs: told before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from openpi_flash_training.train.mesh import bytes_per_device
from openpi_flash_training.train.step import TrainState


@dataclass(frozen=True)
class ParameterRow:
    """One tensor.

    Attributes:
        name: its path.
        shape: whole.
        dtype: in memory.
        trained: whether it is.
        device_bytes: of one device's part.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    trained: bool
    device_bytes: int

    @property
    def count(self) -> int:
        """Numbers in it."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Memory:
    """Bytes on each device.

    Attributes:
        parameters: of the model.
        optimizer: Adam's moments.
        mean: the running mean of the parameters.
        working: the most that a step needs besides, as compiled: gradients, activations, batch;
            None: not known.
    """

    parameters: int
    optimizer: int
    mean: int
    working: int | None = None

    @property
    def total(self) -> int:
        """All that is known."""
        return self.parameters + self.optimizer + self.mean + (self.working or 0)


def parameter_rows(state: TrainState, shardings: TrainState, mask: Any) -> list[ParameterRow]:
    """Every parameter, in the tree's order.

    Args:
        state: shapes and dtypes.
        shardings: of the state.
        mask: which are trained.
    """

    def rows() -> Iterator[ParameterRow]:
        leaves = jax.tree_util.tree_leaves_with_path(state.params)
        others = jax.tree.leaves(shardings.params), jax.tree.leaves(mask)
        for (path, leaf), sharding, trained in zip(leaves, *others, strict=True):
            name = "/".join(str(part.key) for part in path)
            size = bytes_per_device(leaf, sharding)
            yield ParameterRow(name, tuple(leaf.shape), str(leaf.dtype), bool(trained), size)

    return list(rows())


def memory(state: TrainState, shardings: TrainState, working: int | None) -> Memory:
    """What each device holds during training."""

    def size(tree: Any, places: Any) -> int:
        parts = zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True)
        return sum(bytes_per_device(leaf, place) for leaf, place in parts)

    return Memory(
        size(state.params, shardings.params),
        size(state.opt_state, shardings.opt_state),
        size(state.ema, shardings.ema),
        working,
    )

"""Weights of eight bits, each column (of a table: each row) with a scale of its own.

``x @ w`` and ``table[ids]`` read as with plain arrays. A product converts the eight-bit numbers to
the dtype of ``x`` on their way from memory and scales the sums, so that the weights take half of
bfloat16's memory and bandwidth, and the same operations.

Quantized are the matrices of all layers and the embedding. The rest is small or sensitive and
keeps its dtype: norms and their modulation, biases, the patch embedding, and the heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from openpi_flash_models.model.precision import Quantization

Params = Mapping[str, Any]

_TYPES: dict[Quantization, Any] = {"float8": jnp.float8_e4m3fn, "int8": jnp.int8}
_LARGEST: dict[Quantization, float] = {"float8": 448.0, "int8": 127.0}
_TOWER_MATRICES = frozenset({"qkv", "out", "gate_up", "down"})


@partial(jax.tree_util.register_dataclass, data_fields=["values", "scale"], meta_fields=["compute"])
@dataclass(frozen=True)
class Quantized:
    """A matrix, or a stack of them.

    Attributes:
        values: [..., D, F] of eight bits.
        scale: float32, of each column [..., 1, F], or of each row of a table [V, 1].
        compute: name of the dtype that rows are read as.
    """

    values: jax.Array
    scale: jax.Array
    compute: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return tuple(self.values.shape)

    @property
    def dtype(self) -> Any:
        """The dtype that rows are read as."""
        return jnp.dtype(self.compute)

    @property
    def T(self) -> Quantized:  # noqa: N802
        """The transpose: a table's, as the kernel of a product."""
        return Quantized(self.values.T, self.scale.T, self.compute)

    def reshape(self, *size: int) -> Quantized:
        """Other axes in front of the last one."""
        return Quantized(self.values.reshape(size), self.scale.reshape(1, -1), self.compute)

    def __getitem__(self, rows: jax.Array) -> jax.Array:
        """Rows of a table [V, D], by their indices."""
        read: jax.Array = self.values[rows].astype(jnp.float32) * self.scale[rows]
        return read.astype(self.dtype)

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        """``x @ self``: [..., F] in the dtype of ``x``."""
        return self.sums(x).astype(x.dtype)

    def sums(self, x: jax.Array) -> jax.Array:
        """``x @ self`` in float32."""
        product = jnp.matmul(x, self.values.astype(x.dtype), preferred_element_type=jnp.float32)
        scaled: jax.Array = product * self.scale
        return scaled


@partial(jax.jit, static_argnames=("kind", "axes"))
def quantize(weight: jax.Array, kind: Quantization, axes: tuple[int, ...]) -> Quantized:
    """The nearest eight-bit numbers, the largest of each scale being the type's largest.

    Args:
        weight: bfloat16 or float32.
        kind: which type.
        axes: that share a scale: those that a product sums over, or the columns of a table.
    """
    wide = weight.astype(jnp.float32)
    largest = jnp.abs(wide).max(axes, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0) / _LARGEST[kind]
    scaled = wide / scale
    if kind == "int8":
        scaled = jnp.round(scaled)
    return Quantized(scaled.astype(_TYPES[kind]), scale, str(weight.dtype))


def quantize_tree(weights: Params, kind: Quantization, put: Callable[[Any], Any]) -> dict[str, Any]:
    """The weights of a model, quantized one after the other.

    Args:
        weights: of ``arrange`` with fused projections.
        kind: which type.
        put: what happens to a weight first; the other weights get nothing else.
    """

    def each(path: tuple[Any, ...], weight: Any) -> Any:
        axes = _axes([str(getattr(part, "key", "")) for part in path])
        return put(weight) if axes is None else quantize(put(weight), kind, axes)

    made: dict[str, Any] = jax.tree_util.tree_map_with_path(each, weights)
    return made


def _axes(names: list[str]) -> tuple[int, ...] | None:
    """The axes of a weight that share a scale; None: it is not quantized."""
    if names == ["embedding"]:
        return (-1,)
    if names[:2] == ["vision", "layers"] and names[-1] == "kernel":
        # the output projection sums over heads and their width
        return (-3, -2) if names[-2] == "out" else (-2,)
    is_of_tower = names[0] in ("language", "expert") and names[-1] in _TOWER_MATRICES
    return (-2,) if is_of_tower else None

"""What a program is made for: a model's sizes, its switches, and what happens to each layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.model.rearrangements import Graph
from openpi_flash_models.model.shape import ModelShape

Params = Mapping[str, Any]
Layer = Callable[[Params], Params]


class Arch(NamedTuple):
    """A model's sizes and switches, for which a program is made.

    Attributes:
        shape: sizes of the model.
        graph: how it computes.
        layer: makes the weights that a layer computes with of those in the tree (adapters merged,
            another dtype, gathered from other devices); None: those in the tree. Runs when the
            layer does, so that its results never exist for all layers at once.
        remat: compute each layer again in a backward pass instead of keeping its arrays.
        dtype: in which layers compute; None: the weights' own.
        kernels: what runs the layers' fused kernels: ``triton`` on a GPU of NVIDIA's, or
            ``interpret`` on a CPU, slowly, for the tests; None: XLA makes all kernels.
    """

    shape: ModelShape
    graph: Graph
    layer: Layer | None = None
    remat: bool = False
    dtype: str | None = None
    kernels: Literal["triton", "interpret"] | None = None

    def uses_kernels(self, dtype: Any) -> bool:
        """Whether arrays of this dtype go through the fused kernels."""
        # the kernels' products are made for bfloat16; in float32 a GPU is used to compare
        return self.kernels == "interpret" or (self.kernels == "triton" and dtype == jnp.bfloat16)


def kernels_of_device() -> Literal["triton"] | None:
    """What can run the fused kernels on JAX's device."""
    device = jax.devices()[0]
    capability = str(getattr(device, "compute_capability", ""))
    # NVIDIA's are numbers; before 8.0 (Ampere) GPUs do not multiply bfloat16
    found = re.fullmatch(r"(\d+)\.\d+", capability)
    return "triton" if found and int(found[1]) >= 8 else None


def run_each_layer(
    arch: Arch,
    step: Callable[[jax.Array, Params, Sequence[Any]], tuple[jax.Array, Any]],
    x: jax.Array,
    layers: Any,
    *,
    count: int,
    beside: Sequence[Any] = (),
) -> tuple[jax.Array, Any]:
    """Pass ``x`` through the first layers.

    Args:
        arch: what happens to each layer.
        step: ``x``, the layer's weights and what is beside them to the next ``x`` and a result.
        x: input of the first layer.
        layers: a list of layers, or arrays that are stacked over layers.
        count: how many layers.
        beside: more trees like ``layers``, or None.

    Returns:
        The last ``x``, and the results, in a list or stacked.
    """

    def one(x: jax.Array, given: tuple[Params, Sequence[Any]]) -> tuple[jax.Array, Any]:
        layer, rest = given
        return step(x, used_layer(arch, layer), rest)

    def at(index: Any) -> tuple[Params, Sequence[Any]]:
        return layer_at(layers, index), [layer_at(tree, index) for tree in beside]

    is_unrolled = isinstance(layers, list)
    if arch.remat:
        # within a scan nothing can be merged with the forward pass, so nothing has to prevent it
        one = jax.checkpoint(one, prevent_cse=is_unrolled)
    if is_unrolled:
        results = []
        for index in range(count):
            x, result = one(x, at(index))
            results.append(result)
        return x, results
    if count == jax.tree.leaves(layers)[0].shape[0]:
        # as inputs of the scan, so that a backward pass does not carry the gradients of all layers
        return jax.lax.scan(one, x, (layers, list(beside)))
    # part of the layers as inputs would be a copy of their weights
    return jax.lax.scan(lambda x, index: one(x, at(index)), x, jnp.arange(count))


def used_layer(arch: Arch, layer: Params) -> Params:
    """The weights that a layer computes with."""
    return layer if arch.layer is None else arch.layer(layer)


def layer_at(layers: Any, index: Any) -> Any:
    """One layer of a list of layers, or of arrays that are stacked over layers."""
    if isinstance(layers, list):
        return layers[index]
    return jax.tree.map(
        lambda w: (
            w[index] if isinstance(index, int) else jax.lax.dynamic_index_in_dim(w, index, 0, False)
        ),
        layers,
    )

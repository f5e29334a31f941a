"""The weights that a layer computes with: adapters merged, in the compute dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from openpi_flash_models.checkpoints.lora import adapted

Params = Mapping[str, Any]

_NORMS = frozenset({"norm_0", "norm_1", "pre_attention_norm", "pre_ffw_norm"})


def layer_weights(layer: Params, dtype: str) -> dict[str, Any]:
    """Make the weights of one layer; for ``Arch.layer``.

    Args:
        layer: of ``arrange``, with adapters that are scaled already, if any.
        dtype: of the matrices. Norms keep theirs: they compute in float32.
    """
    layer = dict(layer)
    for name, halves in layer.pop("lora", {}).items():
        layer[name] = adapted(
            layer[name], halves["a"], halves["b"], scale=1.0, sums_heads=name == "out"
        )
    return {
        name: part if name in _NORMS else jax.tree.map(lambda w: w.astype(dtype), part)
        for name, part in layer.items()
    }

"""The layers of a Gemma tower for a few tokens, five kernels of a GPU each.

    norm, query, key and value | RoPE and attention | out, residual
    norm, gate, up, activation | down, residual

Weights take most of the time to arrive, so all that lies between two products is done inside
them. The same numbers as ``gemma.py``'s layers, summed in another order.

Shapes: B batch, T tokens, D width, H head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from openpi_flash_models.jax_models.fused_attention import Rotation, Seen, rotate_and_attend
from openpi_flash_models.jax_models.fused_projection import (
    MOST_ROWS,
    Norm,
    add_product,
    normed_product,
)

Params = Mapping[str, Any]

SMALLEST_HEAD = 32
"""Triton multiplies blocks from 16 on, and RoPE takes a head in two halves."""


@dataclass(frozen=True)
class Layer:
    """One layer and what belongs to it.

    Attributes:
        weights: with fused projections.
        pre_attention: the norm in front of attention.
        pre_ffw: the norm in front of the MLP.
        seen: keys and values of earlier tokens.
    """

    weights: Params
    pre_attention: Norm
    pre_ffw: Norm
    seen: Sequence[Seen]


def suits(layers: Any, head_width: int) -> bool:
    """Whether the kernels can read such layers."""
    is_power = head_width >= SMALLEST_HEAD and head_width & (head_width - 1) == 0
    return is_power and isinstance(layers, list) and "qkv" in layers[0]


def are_few(x: jax.Array) -> bool:
    """Whether tokens [B, T, D] are so few that ``run_layer`` pays."""
    return x.shape[0] * x.shape[1] <= MOST_ROWS


def run_layer(
    layer: Layer, x: jax.Array, rotation: Rotation, head_width: int, *, interpret: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One layer of ``x`` [B, T, D].

    Returns:
        The next ``x``, and the keys and values [B, T, H] of these tokens.
    """
    batch, length, width = x.shape
    weights = layer.weights
    flat = x.reshape(batch * length, width)
    projected = normed_product(
        flat, layer.pre_attention, weights["qkv"], gated=False, interpret=interpret
    ).reshape(batch, length, -1, head_width)
    seen, keys = rotate_and_attend(projected, rotation, layer.seen, interpret=interpret)
    flat = add_product(
        flat,
        seen.reshape(batch * length, -1),
        weights["out"],
        layer.pre_attention,
        interpret=interpret,
    )
    hidden = normed_product(
        flat, layer.pre_ffw, weights["gate_up"], gated=True, interpret=interpret
    )
    flat = add_product(flat, hidden, weights["down"], layer.pre_ffw, interpret=interpret)
    return flat.reshape(batch, length, width), keys, projected[:, :, -1]

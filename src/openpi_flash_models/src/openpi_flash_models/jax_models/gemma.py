"""Gemma decoder layers for the two experts of pi0 and pi0.5.

The experts have their own weights and share one attention: the prefix (pictures and words) runs
through expert 0 and leaves keys and values per layer, the suffix (actions) runs through expert 1
and attends to them. The prefix never attends to the suffix, so the two passes are exact.

Shapes: B batch, T tokens of this pass, S keys seen, L layers, D width, N query heads, K key heads,
H head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

RMS_EPSILON = 1e-6
ROPE_MAX_WAVELENGTH = 10_000
MASKED_LOGIT = -2.3819763e38

Params = Mapping[str, Any]


class KeyValues(NamedTuple):
    """Keys (after RoPE) and values of some tokens, for every layer: each [L, B, S, K, H]."""

    keys: jax.Array
    values: jax.Array


def select_expert(llm: Params, expert: int) -> dict[str, Any]:
    """The weights of one expert under names without the expert's suffix.

    Args:
        llm: ``PaliGemma/llm`` of a checkpoint.
        expert: 0 (pictures and words) or 1 (actions).
    """
    suffix = "" if expert == 0 else f"_{expert}"
    layers = llm["layers"]
    attention = layers["attn"]
    return {
        "q": attention[f"q_einsum{suffix}"]["w"],
        "kv": attention[f"kv_einsum{suffix}"]["w"],
        "out": attention[f"attn_vec_einsum{suffix}"]["w"],
        "mlp": layers[f"mlp{suffix}"],
        "pre_attention_norm": layers[f"pre_attention_norm{suffix}"],
        "pre_ffw_norm": layers[f"pre_ffw_norm{suffix}"],
        "final_norm": llm[f"final_norm{suffix}"],
    }


def embed_tokens(llm: Params, tokens: jax.Array) -> jax.Array:
    """[..., D] embeddings of [...] token ids, scaled by the root of the width."""
    table: jax.Array = llm["embedder"]["input_embedding"]
    # Rounded to the table's dtype first: 45.25 for 2048 in bfloat16.
    return table[tokens] * jnp.sqrt(jnp.asarray(table.shape[-1], jnp.float32)).astype(table.dtype)


def run_layers(
    expert: Params,
    x: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    *,
    past: KeyValues | None = None,
    condition: jax.Array | None = None,
) -> tuple[jax.Array, KeyValues]:
    """Run all layers and the final norm of one expert.

    Args:
        expert: from :func:`select_expert`.
        x: [B, T, D].
        positions: [B, T] int, for RoPE.
        mask: [B, T, S] bool, true where a token may look; S = past keys, then these T tokens.
        past: keys and values of earlier tokens.
        condition: [B, D], for an expert whose norms are adaptive.

    Returns:
        The normed output [B, T, D], and the keys and values of these T tokens.
    """
    stacked = _layers_of(expert)

    def step(
        x: jax.Array, layer_and_past: tuple[Params, KeyValues | None]
    ) -> tuple[jax.Array, KeyValues]:
        layer, seen = layer_and_past
        h, gate = norm(x, layer["pre_attention_norm"], condition)
        own = _keys_values(layer, h, positions)
        seen = own if seen is None else jax.tree.map(_append, seen, own)
        x = _residual(x, _attend(layer, h, positions, mask, seen), gate)
        h, gate = norm(x, layer["pre_ffw_norm"], condition)
        return _residual(x, _mlp(layer["mlp"], h), gate), own

    x, own = jax.lax.scan(step, x, (stacked, past))
    return norm(x, expert["final_norm"], condition)[0], own


def read_layers(
    expert: Params, x: jax.Array, positions: jax.Array, mask: jax.Array, wanted: jax.Array
) -> tuple[jax.Array, KeyValues]:
    """As :func:`run_layers` for a prefix of which few or no outputs are read.

    In the last layer every token leaves keys and values, but only the wanted ones look and think:
    the rest would make outputs for nobody. Exact, and it saves most of a layer.

    Args:
        expert: from :func:`select_expert`, with plain norms.
        x: [B, T, D].
        positions: [B, T] int.
        mask: [B, T, T] bool.
        wanted: [B, Q] int, indices of tokens; Q may be 0.

    Returns:
        The normed output [B, Q, D] of the wanted tokens, and the keys and values of all.
    """
    stacked = _layers_of(expert)
    depth = stacked["q"].shape[0]

    def weights_of(index: jax.Array | int) -> Params:
        return jax.tree.map(lambda w: jax.lax.dynamic_index_in_dim(w, index, 0, False), stacked)

    # Over indices, not over a slice of the weights, which would be copied in every call.
    def step(x: jax.Array, index: jax.Array) -> tuple[jax.Array, KeyValues]:
        layer = weights_of(index)
        h, _ = norm(x, layer["pre_attention_norm"], None)
        own = _keys_values(layer, h, positions)
        x = x + _attend(layer, h, positions, mask, own)
        h, _ = norm(x, layer["pre_ffw_norm"], None)
        return x + _mlp(layer["mlp"], h), own

    x, earlier = jax.lax.scan(step, x, jnp.arange(depth - 1))
    last = weights_of(depth - 1)
    h, _ = norm(x, last["pre_attention_norm"], None)
    own = _keys_values(last, h, positions)
    cache = jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), earlier, own)

    x, h, mask = (jnp.take_along_axis(a, wanted[:, :, None], axis=1) for a in (x, h, mask))
    positions = jnp.take_along_axis(positions, wanted, axis=1)
    x = x + _attend(last, h, positions, mask, own)
    h, _ = norm(x, last["pre_ffw_norm"], None)
    x = x + _mlp(last["mlp"], h)
    return norm(x, expert["final_norm"], None)[0], cache


def norm(
    x: jax.Array, params: Params, condition: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """RMS norm; adaptive (scale, shift and a gate from the condition) where the weights are.

    Returns:
        The normed ``x``, and the gate [B, 1, D] of the branch that follows (None if plain).
    """
    wide = x.astype(jnp.float32)
    normed = wide / jnp.sqrt(jnp.square(wide).mean(-1, keepdims=True) + RMS_EPSILON)
    if "scale" in params:
        return (normed * (1 + params["scale"])).astype(x.dtype), None
    assert condition is not None, "an adaptive norm needs a condition"
    dense = params["Dense_0"]
    modulation = condition.astype(x.dtype) @ dense["kernel"] + dense["bias"]
    scale, shift, gate = jnp.split(modulation[:, None, :], 3, axis=-1)
    return (normed * (1 + scale) + shift).astype(x.dtype), gate


def rope(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Rotate [B, T, N, H] by position; the two halves of H are the pairs' coordinates."""
    half = x.shape[-1] // 2
    wavelengths = ROPE_MAX_WAVELENGTH ** (2.0 * jnp.arange(half, dtype=jnp.float32) / x.shape[-1])
    angles = positions[:, :, None, None].astype(jnp.float32) / wavelengths
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def _layers_of(expert: Params) -> dict[str, Any]:
    """The weights that are stacked over the layers."""
    return {name: weights for name, weights in expert.items() if name != "final_norm"}


def _keys_values(layer: Params, h: jax.Array, positions: jax.Array) -> KeyValues:
    """Keys and values of one layer, [B, T, K, H] each."""
    keys, values = jnp.einsum("btd,ckdh->cbtkh", h, layer["kv"])
    return KeyValues(rope(keys, positions), values)


def _attend(
    layer: Params, h: jax.Array, positions: jax.Array, mask: jax.Array, seen: KeyValues
) -> jax.Array:
    """What the tokens ``h`` [B, T, D] see in ``seen``, [B, T, D]."""
    query = jnp.einsum("btd,ndh->btnh", h, layer["q"])
    head_width = query.shape[-1]
    query = rope(query, positions) * jnp.asarray(head_width**-0.5, h.dtype)
    batch, length, heads, _ = query.shape
    key_heads = seen.keys.shape[2]
    query = query.reshape(batch, length, key_heads, heads // key_heads, head_width)
    logits = jnp.einsum("btkgh,bskh->bkgts", query, seen.keys, preferred_element_type=jnp.float32)
    logits = jnp.where(mask[:, None, None], logits, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1).astype(h.dtype)
    attended = jnp.einsum("bkgts,bskh->btkgh", weights, seen.values)
    attended = attended.reshape(batch, length, heads, head_width)
    return jnp.einsum("btnh,nhd->btd", attended, layer["out"])


def _append(past: jax.Array, own: jax.Array) -> jax.Array:
    return jnp.concatenate([past, own], axis=1)


def _mlp(params: Params, x: jax.Array) -> jax.Array:
    gate, up = jnp.einsum("btd,cdf->cbtf", x, params["gating_einsum"])
    product: jax.Array = (jax.nn.gelu(gate, approximate=True) * up) @ params["linear"]
    return product


def _residual(x: jax.Array, branch: jax.Array, gate: jax.Array | None) -> jax.Array:
    return x + branch if gate is None else x + branch * gate

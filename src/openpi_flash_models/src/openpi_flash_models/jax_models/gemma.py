"""Gemma decoder layers for the two experts of pi0 and pi0.5, and the one of pi0-FAST.

Sources: Gemma (arXiv 2403.08295), the two experts of pi0 (arXiv 2410.24164, section IV), and
``openpi/models/gemma.py``. The experts have their own weights and share one attention: the prefix
(images and prompt) runs through expert 0 and leaves keys and values per layer, the suffix
(actions) runs through expert 1 and attends to them. The prefix never attends to the suffix, so the
two passes are exact.

Shapes: B batch, T tokens of this pass, S keys seen, L layers, D width, N query heads, K key heads,
H head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models import fused_layers
from openpi_flash_models.jax_models.arch import Arch, layer_at, run_each_layer, used_layer
from openpi_flash_models.jax_models.fused_attention import Rotation, Seen
from openpi_flash_models.jax_models.fused_attention import attend as attend_by_kernel
from openpi_flash_models.jax_models.fused_projection import Norm
from openpi_flash_models.model.shape import ModelShape

RMS_EPSILON = 1e-6
ROPE_MAX_WAVELENGTH = 10_000
MASKED_LOGIT = -2.3819763e38

Params = Mapping[str, Any]


class KeyValues(NamedTuple):
    """Keys (after RoPE) and values of some tokens: [B, S, K, H] each.

    Over all layers it is ``Cache``: a list of these, or one with a leading axis [L, ...].
    """

    keys: jax.Array
    values: jax.Array


Cache = Any


class Past(NamedTuple):
    """Tokens of earlier passes.

    Attributes:
        cache: keys and values, over all layers.
        valid: [B, S] bool, tokens that may be attended to.
    """

    cache: Cache
    valid: jax.Array


class Modulation(NamedTuple):
    """Scale, shift and gate of adaptive norms, [..., 3 D]; B and T may be 1 (for all).

    Attributes:
        pre_attention: [L, B, T, 3 D].
        pre_ffw: [L, B, T, 3 D].
        final: [B, T, 3 D].
    """

    pre_attention: jax.Array
    pre_ffw: jax.Array
    final: jax.Array


def embed_tokens(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """[..., D] embeddings of [...] token ids, scaled by the root of the width."""
    # Rounded to the table's dtype first: 45.25 for 2048 in bfloat16.
    return table[tokens] * jnp.sqrt(jnp.asarray(table.shape[-1], jnp.float32)).astype(table.dtype)


def run_layers(
    arch: Arch,
    tower: Params,
    x: jax.Array,
    positions: jax.Array,
    mask: jax.Array | None,
    *,
    past: Sequence[Past] = (),
    modulation: Modulation | None = None,
    wanted: jax.Array | None = None,
) -> tuple[jax.Array, Cache]:
    """Run all layers and the final norm of one expert.

    Args:
        arch: sizes and switches.
        tower: ``language`` or ``expert`` of the weights.
        x: [B, T, D].
        positions: [B, T] int, for RoPE.
        mask: [B, T|1, T] bool, true where a token may attend to another one; None: everywhere.
        past: earlier tokens; all valid ones are attended to.
        modulation: for an expert whose norms are adaptive.
        wanted: [B, Q] int, indices of tokens whose outputs are read (Q may be 0); None: all. In
            the last layer every token leaves keys and values, but only ``wanted`` tokens run
            attention and the MLP; nothing reads the others' outputs.

    Returns:
        The normed output [B, Q or T, D], and the keys and values of all T tokens.
    """
    shape, layers, depth = arch.shape, tower["layers"], arch.shape.depth
    kernels_suit = _kernels_suit(arch, layers, x, mask)
    if kernels_suit and mask is None and wanted is None and fused_layers.are_few(x):
        return _run_fused(arch, tower, x, positions, past=past, modulation=modulation)
    early = wanted is not None and arch.graph.keys_only_last_layer

    def attend(layer: Params, query: jax.Array, own: KeyValues, seen: Any, mask: Any) -> jax.Array:
        blocks = _blocks(own, seen, past, mask)
        if not arch.graph.static_cache:
            blocks = [_joined(blocks, query.shape[:2])]
        return _out(layer, attention(query, blocks))

    def step(x: jax.Array, layer: Params, beside: Sequence[Any]) -> tuple[jax.Array, KeyValues]:
        pre_attention, pre_ffw, *seen = beside
        h, gate = norm(x, layer["pre_attention_norm"], pre_attention)
        if kernels_suit:
            projected = (h @ layer["qkv"]).reshape(*h.shape[:2], -1, shape.head_width)
            own = _own(projected, positions)
            blocks = _blocks(own, seen, past, mask)
            branch = _attend_fused(arch, projected, positions, blocks) @ layer["out"]
        else:
            query, own = project(shape, layer, h, positions)
            branch = attend(layer, query, own, seen, mask)
        x = _residual(x, branch, gate)
        h, gate = norm(x, layer["pre_ffw_norm"], pre_ffw)
        return _residual(x, _mlp(layer, h), gate), own

    norms = [None, None] if modulation is None else [modulation.pre_attention, modulation.pre_ffw]
    beside = [*norms, *(group.cache for group in past)]
    count = depth - 1 if early else depth
    x, cache = run_each_layer(arch, step, x, layers, count=count, beside=beside)
    if early and wanted is not None:
        assert not past, "only the prefix pass takes wanted"
        assert modulation is None, "the prefix pass has plain norms"
        layer = used_layer(arch, layer_at(layers, depth - 1))
        h, _ = norm(x, layer["pre_attention_norm"], None)
        if wanted.shape[1] == 0:
            _, own = project(shape, layer, h, positions)
            x = x[:, :0]
        else:
            query, own = project(shape, layer, h, positions)
            rows = wanted[:, :, None]
            x = jnp.take_along_axis(x, rows, axis=1)
            query = jnp.take_along_axis(query, rows[..., None], axis=1)
            x = x + attend(layer, query, own, [], _of_rows(mask, rows))
            h, _ = norm(x, layer["pre_ffw_norm"], None)
            x = x + _mlp(layer, h)
        if isinstance(cache, list):
            cache = [*cache, own]
        else:
            cache = jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), cache, own)
    elif wanted is not None:
        x = jnp.take_along_axis(x, wanted[:, :, None], axis=1)
    final = None if modulation is None else modulation.final
    return norm(x, tower["final_norm"], final)[0], cache


def _kernels_suit(arch: Arch, layers: Any, x: jax.Array, mask: jax.Array | None) -> bool:
    """Whether the fused kernels can run these layers: all tokens see the same keys."""
    return (
        arch.uses_kernels(x.dtype)
        and arch.layer is None
        and arch.graph.static_cache
        and arch.shape.key_heads == 1
        and (mask is None or mask.shape[1] == 1)
        and fused_layers.suits(layers, arch.shape.head_width)
    )


def _blocks(
    own: KeyValues, seen: Sequence[KeyValues], past: Sequence[Past], mask: jax.Array | None
) -> list[tuple[KeyValues, jax.Array]]:
    """Keys of earlier tokens, then of these, each with a mask as ``attention`` takes them."""
    if mask is None:
        mask = jnp.ones((1, 1, own.keys.shape[1]), bool)
    earlier = [(kv, group.valid[:, None, :]) for kv, group in zip(seen, past, strict=True)]
    return [*earlier, (own, mask)]


def _own(projected: jax.Array, positions: jax.Array) -> KeyValues:
    """Keys and values of [B, T, N + 2, H]."""
    return KeyValues(rope(projected[:, :, -2:-1], positions), projected[:, :, -1:])


def _rotation(positions: jax.Array, batch: int, width: int) -> Rotation:
    angles = _angles(_of_batch(positions, batch), width)
    return Rotation(jnp.cos(angles), jnp.sin(angles))


def _attend_fused(
    arch: Arch,
    projected: jax.Array,
    positions: jax.Array,
    blocks: Sequence[tuple[KeyValues, jax.Array]],
) -> jax.Array:
    """``attention`` by a kernel, of projected and not yet rotated tokens [B, T, N + 2, H]."""
    batch, width = projected.shape[0], projected.shape[-1]
    groups = [
        Seen(kv.keys[:, :, 0], kv.values[:, :, 0], _of_batch(mask[:, 0], batch))
        for kv, mask in blocks
    ]
    rotation = _rotation(positions, batch, width)
    return attend_by_kernel(projected, rotation, groups, interpret=arch.kernels == "interpret")


def _run_fused(
    arch: Arch,
    tower: Params,
    x: jax.Array,
    positions: jax.Array,
    *,
    past: Sequence[Past],
    modulation: Modulation | None,
) -> tuple[jax.Array, Cache]:
    """``run_layers`` of a few tokens that attend to each other."""
    batch, length, _ = x.shape
    rotation = _rotation(positions, batch, arch.shape.head_width)
    valid = [_of_batch(group.valid, batch) for group in past]

    def table(which: jax.Array) -> jax.Array:
        """[L, 1 | B * T, 3 D]."""
        if which.shape[1:3] != (1, 1):
            which = jnp.broadcast_to(which, (which.shape[0], batch, length, which.shape[3]))
        return which.reshape(which.shape[0], -1, which.shape[3])

    tables = None
    if modulation is not None:
        tables = [table(modulation.pre_attention), table(modulation.pre_ffw)]
    cache = []
    for index, weights in enumerate(tower["layers"]):
        if tables is None:
            names = ("pre_attention_norm", "pre_ffw_norm")
            norms = [Norm(weights[name]["scale"][None, None], _row(0)) for name in names]
        else:
            norms = [Norm(each, _row(index)) for each in tables]
        seen = [
            Seen(kv.keys[:, :, 0], kv.values[:, :, 0], mask)
            for kv, mask in zip((layer_at(g.cache, index) for g in past), valid, strict=True)
        ]
        x, keys, values = fused_layers.run_layer(
            fused_layers.Layer(weights, norms[0], norms[1], seen),
            x,
            rotation,
            arch.shape.head_width,
            interpret=arch.kernels == "interpret",
        )
        cache.append(KeyValues(keys[:, :, None], values[:, :, None]))
    final = None if modulation is None else modulation.final
    return norm(x, tower["final_norm"], final)[0], cache


def _row(index: int) -> jax.Array:
    return jnp.full(1, index, jnp.int32)


def _of_rows(mask: jax.Array | None, rows: jax.Array) -> jax.Array | None:
    """The mask of some of its rows; a single row is that of all."""
    if mask is None or mask.shape[1] == 1:
        return mask
    return jnp.take_along_axis(mask, rows, axis=1)


def _of_batch(x: jax.Array, batch: int) -> jax.Array:
    return jnp.broadcast_to(x, (batch, *x.shape[1:]))


def norm(
    x: jax.Array, params: Params, modulation: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """RMS norm; adaptive (scale, shift and gate from ``modulation``) if it has no own scale.

    Returns:
        The normed ``x``, and the gate of the branch that follows (None if plain).
    """
    wide = x.astype(jnp.float32)
    normed = wide / jnp.sqrt(jnp.square(wide).mean(-1, keepdims=True) + RMS_EPSILON)
    if "scale" in params:
        return (normed * (1 + params["scale"])).astype(x.dtype), None
    assert modulation is not None, "an adaptive norm needs a modulation"
    scale, shift, gate = jnp.split(modulation, 3, axis=-1)
    return (normed * (1 + scale) + shift).astype(x.dtype), gate


def rope(x: jax.Array, positions: jax.Array) -> jax.Array:
    """RoPE (arXiv 2104.09864) of [B, T, N, H]; coordinate i of H pairs with i + H/2."""
    half = x.shape[-1] // 2
    angles = _angles(positions, x.shape[-1])[:, :, None]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def _angles(positions: jax.Array, width: int) -> jax.Array:
    """[B, T, H / 2] float32 of positions [B, T]."""
    half = jnp.arange(width // 2, dtype=jnp.float32)
    wavelengths = ROPE_MAX_WAVELENGTH ** (2.0 * half / width)
    return positions[:, :, None].astype(jnp.float32) / wavelengths


def project(
    shape: ModelShape, layer: Params, h: jax.Array, positions: jax.Array
) -> tuple[jax.Array, KeyValues]:
    """Query [B, T, N, H], scaled and rotated, and keys and values of one layer."""
    assert "lora" not in layer, "Arch.layer merges adapters into the weights"
    n, k, head_width = shape.heads, shape.key_heads, shape.head_width
    if "qkv" in layer:
        parts = jnp.split(h @ layer["qkv"], [n * head_width, (n + k) * head_width], axis=-1)
        query, keys, values = (
            part.reshape(*h.shape[:2], count, head_width)
            for part, count in zip(parts, (n, k, k), strict=True)
        )
    else:
        query = jnp.einsum("btd,ndh->btnh", h, layer["q"])
        keys, values = jnp.einsum("btd,ckdh->cbtkh", h, layer["kv"])
    query = rope(query, positions) * jnp.asarray(head_width**-0.5, h.dtype)
    return query, KeyValues(rope(keys, positions), values)


def attention(query: jax.Array, blocks: Sequence[tuple[KeyValues, jax.Array]]) -> jax.Array:
    """Attention of queries [B, T, N, H] to blocks of keys, each with a mask [B|1, T|1, S].

    The softmax is over all blocks, which are not copied.
    """
    batch, length, heads, head_width = query.shape
    key_heads = blocks[0][0].keys.shape[2]
    grouped = query.reshape(batch, length, key_heads, heads // key_heads, head_width)
    logits = [
        jnp.where(
            mask[:, None, None],
            jnp.einsum("btkgh,bskh->bkgts", grouped, seen.keys, preferred_element_type=jnp.float32),
            MASKED_LOGIT,
        )
        for seen, mask in blocks
    ]
    weights = jax.nn.softmax(jnp.concatenate(logits, axis=-1), axis=-1).astype(query.dtype)
    attended: jax.Array | float = 0.0
    start = 0
    for seen, _ in blocks:
        size = seen.keys.shape[1]
        part = weights[..., start : start + size]
        # summed in float32: the blocks' parts are rounded once, together
        attended += jnp.einsum(
            "bkgts,bskh->btkgh", part, seen.values, preferred_element_type=jnp.float32
        )
        start += size
    return jnp.asarray(attended).astype(query.dtype).reshape(batch, length, heads, head_width)


def _joined(
    blocks: Sequence[tuple[KeyValues, jax.Array]], rows: tuple[int, ...]
) -> tuple[KeyValues, jax.Array]:
    """All blocks, copied into one."""
    keys = jnp.concatenate([seen.keys for seen, _ in blocks], axis=1)
    values = jnp.concatenate([seen.values for seen, _ in blocks], axis=1)
    masks = [jnp.broadcast_to(mask, (*rows, mask.shape[-1])) for _, mask in blocks]
    return KeyValues(keys, values), jnp.concatenate(masks, axis=-1)


def _out(layer: Params, attended: jax.Array) -> jax.Array:
    if "qkv" in layer:
        flat: jax.Array = attended.reshape(*attended.shape[:2], -1) @ layer["out"]
        return flat
    return jnp.einsum("btnh,nhd->btd", attended, layer["out"])


def _mlp(layer: Params, x: jax.Array) -> jax.Array:
    if "gate_up" in layer:
        gate, up = jnp.split(x @ layer["gate_up"], 2, axis=-1)
    else:
        gate, up = jnp.einsum("btd,cdf->cbtf", x, layer["gating"])
    product: jax.Array = (jax.nn.gelu(gate, approximate=True) * up) @ layer["down"]
    return product


def _residual(x: jax.Array, branch: jax.Array, gate: jax.Array | None) -> jax.Array:
    return x + branch if gate is None else x + branch * gate

"""Attention as one kernel of a GPU, instead of the dozen that XLA makes of it.

Written in Pallas for Triton: keys are read block by block, and the softmax is summed on the way
(FlashAttention, arXiv 2205.14135). Earlier tokens' keys and this pass's own are read where they
lie. A few queries would keep few of a GPU's cores busy, so for them the keys are dealt out to
several kernels' programs, whose parts are joined behind it.

``interpret`` runs the same code on a CPU, for the tests.

Shapes: B batch, T tokens of this pass, S keys of a group, N query heads, H head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from openpi_flash_models.jax_models.weights import struct

MASKED_LOGIT = -2.3819763e38
ROWS_FEW, ROWS_MANY = 16, 64
"""Queries of one program: of a few tokens, and of a prefix."""
KEYS = 32
"""Keys that a program reads at once: with those that it fetches ahead they fit every GPU since
Ampere, of which the smallest has 99 KiB of shared memory."""
PROGRAMS = 128
"""As many as the large GPUs have cores, about."""


class Seen(NamedTuple):
    """Keys that all queries may attend to.

    Attributes:
        keys: [B, S, H], rotated.
        values: [B, S, H].
        valid: [B, S] bool.
    """

    keys: jax.Array
    values: jax.Array
    valid: jax.Array


class Rotation(NamedTuple):
    """RoPE of this pass's tokens: cosines and sines, [B, T, H / 2] float32."""

    cos: jax.Array
    sin: jax.Array


def attend(
    projected: jax.Array,
    rotation: Rotation,
    groups: Sequence[Seen],
    *,
    interpret: bool = False,
) -> jax.Array:
    """Attention to groups of keys alone.

    Args:
        projected: as ``rotate_and_attend`` takes it; of many tokens, which would be rotated anew
            for every query, own keys are a group, too.
        rotation: of this pass's tokens.
        groups: keys and values.
        interpret: on a CPU.

    Returns:
        [B, T, N * H].
    """
    batch, length, heads, width = projected.shape
    made = _call(projected, rotation, groups, has_own=False, interpret=interpret)
    return _joined(made[0], made[1], projected.dtype).reshape(batch, length, (heads - 2) * width)


def rotate_and_attend(
    projected: jax.Array,
    rotation: Rotation,
    groups: Sequence[Seen],
    *,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Attention to earlier tokens and to all of this pass's own.

    Args:
        projected: [B, T, N + 2, H], of the queries, the key and the value; not rotated or scaled.
        rotation: of this pass's tokens.
        groups: earlier tokens.
        interpret: on a CPU.

    Returns:
        What was attended to, [B, T, N * H], and the rotated own keys, [B, T, H].
    """
    batch, length, heads, width = projected.shape
    parts, logs, keys = _call(projected, rotation, groups, has_own=True, interpret=interpret)
    joined = _joined(parts, logs, projected.dtype)
    return joined.reshape(batch, length, (heads - 2) * width), keys


def attend_images(
    projected: jax.Array, divisor: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """Attention of every patch to all patches of its image, any head width.

    Args:
        projected: [N, P, 3, A, H]: query, key and value of A heads.
        divisor: scalar in the dtype of ``projected``; queries are divided by it.
        interpret: on a CPU.

    Returns:
        [N, P, A, H].
    """
    images, patches, _, heads, width = projected.shape
    rows = min(ROWS_MANY, _power_of_two(patches))
    return pl.pallas_call(
        partial(_image_kernel, patches=patches, width=width, rows=rows),
        out_shape=struct((images, patches, heads, width), projected.dtype),
        grid=(images, heads, pl.cdiv(patches, rows)),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="attend_images",
    )(projected, divisor.reshape(1))


def _call(
    projected: jax.Array,
    rotation: Rotation,
    groups: Sequence[Seen],
    *,
    has_own: bool,
    interpret: bool,
) -> Any:
    batch, length, heads, width = projected.shape
    heads -= 2
    is_few = length * heads < PROGRAMS * ROWS_FEW // batch
    tokens = max(1, (ROWS_FEW if is_few else ROWS_MANY) // heads)
    programs = batch * pl.cdiv(length, tokens)
    blocks = pl.cdiv(groups[0].keys.shape[1], KEYS)
    splits = max(1, min(PROGRAMS // programs, blocks // 4)) if is_few else 1
    kernel = partial(
        _kernel,
        sizes=[group.keys.shape[1] for group in groups],
        heads=heads,
        tokens=tokens,
        has_own=has_own,
    )
    dtype = projected.dtype if splits == 1 else jnp.float32
    out_shape = [
        struct((splits, batch, length, heads, width), dtype),
        struct((splits, batch, length, heads), jnp.float32),
    ]
    if has_own:
        out_shape.append(struct((batch, length, width), projected.dtype))
    # Triton loads no single bits
    arrays = [x for group in groups for x in (*group[:2], group.valid.astype(jnp.int8))]
    return pl.pallas_call(
        kernel,
        out_shape=out_shape,
        grid=(batch, pl.cdiv(length, tokens), splits),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="rotate_and_attend" if has_own else "attend",
    )(projected, *rotation, *arrays)


def _joined(parts: jax.Array, logs: jax.Array, dtype: Any) -> jax.Array:
    """The splits' parts, each weighed by the sum of its exponentials."""
    if parts.shape[0] == 1:
        return parts[0]
    # written out over the splits: as reductions it would be two kernels
    highest = reduce(jnp.maximum, logs)
    weights = [jnp.exp(each - highest)[..., None] for each in logs]
    total = sum(part * weight for part, weight in zip(parts, weights, strict=True))
    joined: jax.Array = total / sum(weights)
    return joined.astype(dtype)


class _Sums(NamedTuple):
    """A softmax on the way: of R queries, after some of the keys.

    Attributes:
        highest: [R], the largest logit.
        total: [R], the sum of exponentials, relative to it.
        values: [R, H], the sum of values with these weights.
    """

    highest: jax.Array
    total: jax.Array
    values: jax.Array


def _no_keys(rows: int, width: int) -> _Sums:
    highest = jnp.full(rows, MASKED_LOGIT, jnp.float32)
    return _Sums(highest, jnp.zeros(rows, jnp.float32), jnp.zeros((rows, width), jnp.float32))


def _after(
    sums: _Sums, query: Sequence[Any], key: Sequence[Any], value: Any, valid: jax.Array
) -> _Sums:
    """The sums after more keys; queries and keys may be in parts of the head."""
    logits = reduce(
        jnp.add, [triton.dot(q, k, trans_b=True) for q, k in zip(query, key, strict=True)]
    )
    logits = jnp.where(valid[None, :], logits, MASKED_LOGIT)
    highest = jnp.maximum(sums.highest, logits.max(axis=1))
    shrunk, weights = jnp.exp(sums.highest - highest), jnp.exp(logits - highest[:, None])
    values = sums.values * shrunk[:, None] + triton.dot(weights.astype(value.dtype), value)
    return _Sums(highest, sums.total * shrunk + weights.sum(axis=1), values)


def _load(ref: Any, index: tuple[Any, ...], inside: jax.Array) -> jax.Array:
    """Of an array whose second axis are tokens; zeros for those outside."""
    shape = tuple(part.size for part in index[1:])
    mask = jnp.broadcast_to(inside[(slice(None), *[None] * (len(shape) - 1))], shape)
    part: jax.Array = triton.load(ref.at[index], mask=mask, other=0)
    return part


class _Own(NamedTuple):
    """This pass's tokens: projections and rotation, in the GPU's memory."""

    projected: Any
    cos: Any
    sin: Any

    def rotated(
        self, batch: Any, where: Any, heads: Any, inside: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The two halves of some heads of some tokens, [tokens, heads, H / 2] each."""
        half = self.projected.shape[3] // 2
        left, right = (
            _load(self.projected, (batch, where, heads, pl.ds(start, half)), inside)
            for start in (0, half)
        )
        dtype = left.dtype
        left, right = left.astype(jnp.float32), right.astype(jnp.float32)
        cos, sin = (
            _load(ref, (batch, where, pl.ds(0, half)), inside)[:, None, :]
            for ref in (self.cos, self.sin)
        )
        return (left * cos - right * sin).astype(dtype), (right * cos + left * sin).astype(dtype)


def _kernel(*refs: Any, sizes: Sequence[int], heads: int, tokens: int, has_own: bool) -> None:
    own, others = _Own(*refs[:3]), refs[3:]
    out, logs, *own_keys = others[3 * len(sizes) :]
    _, length, _, width = own.projected.shape
    batch, first, split = pl.program_id(0), pl.program_id(1) * tokens, pl.program_id(2)
    splits, half, rows = out.shape[0], width // 2, tokens * heads
    # the first group is dealt out, the others are short and come last
    is_last = (split == splits - 1).astype(jnp.int32)
    here, all_heads, whole = pl.ds(first, tokens), pl.ds(0, heads), pl.ds(0, width)
    within = first + jnp.arange(tokens) < length
    scale = jnp.asarray(width**-0.5, own.projected.dtype)
    query = [
        (part * scale).reshape(rows, half) for part in own.rotated(batch, here, all_heads, within)
    ]
    sums = _no_keys(rows, width)
    for index, size in enumerate(sizes):
        keys, values, valid = others[3 * index : 3 * index + 3]
        block = min(KEYS, _power_of_two(size))
        read = partial(_after_block, (keys, values, valid), query, batch, size, block)
        count = pl.cdiv(size, block)
        begin, end = 0, count * is_last
        if index == 0:
            share = pl.cdiv(count, splits)
            begin, end = split * share, jnp.minimum((split + 1) * share, count)
        sums = jax.lax.fori_loop(begin, end, read, sums)
    if has_own:
        block = min(KEYS, _power_of_two(length))
        read = partial(_after_own_block, own, query, batch, heads, block)
        sums = jax.lax.fori_loop(0, pl.cdiv(length, block) * is_last, read, sums)
        own_key = own.rotated(batch, here, pl.ds(heads, 1), within)

        @pl.when(split == 0)
        def _() -> None:
            mask = jnp.broadcast_to(within[:, None], (tokens, half))
            for start, part in zip((0, half), own_key, strict=True):
                place = own_keys[0].at[batch, here, pl.ds(start, half)]
                triton.store(place, part.reshape(tokens, half), mask=mask)

    # a split without any block has a sum of 0, and no weight
    total = jnp.maximum(sums.total, 1e-30)
    result = (sums.values / total[:, None]).reshape(tokens, heads, width).astype(out.dtype)
    mask = jnp.broadcast_to(within[:, None, None], (tokens, heads, width))
    triton.store(out.at[split, batch, here, all_heads, whole], result, mask=mask)
    log = (sums.highest + jnp.log(total)).reshape(tokens, heads)
    mask = jnp.broadcast_to(within[:, None], (tokens, heads))
    triton.store(logs.at[split, batch, here, all_heads], log, mask=mask)


def _after_block(  # noqa: PLR0917
    group: tuple[Any, Any, Any],
    query: Sequence[Any],
    batch: Any,
    size: int,
    block: int,
    j: jax.Array,
    sums: _Sums,
) -> _Sums:
    keys, values, valid = group
    half = keys.shape[2] // 2
    there = pl.ds(j * block, block)
    inside = j * block + jnp.arange(block) < size
    key = [_load(keys, (batch, there, pl.ds(start, half)), inside) for start in (0, half)]
    value = _load(values, (batch, there, pl.ds(0, 2 * half)), inside)
    return _after(sums, query, key, value, _load(valid, (batch, there), inside) != 0)


def _after_own_block(  # noqa: PLR0917
    own: _Own,
    query: Sequence[Any],
    batch: Any,
    heads: int,
    block: int,
    j: jax.Array,
    sums: _Sums,
) -> _Sums:
    _, length, _, width = own.projected.shape
    there = pl.ds(j * block, block)
    inside = j * block + jnp.arange(block) < length
    rotated = own.rotated(batch, there, pl.ds(heads, 1), inside)
    key = [part.reshape(block, width // 2) for part in rotated]
    place = (batch, there, pl.ds(heads + 1, 1), pl.ds(0, width))
    value = _load(own.projected, place, inside).reshape(block, width)
    return _after(sums, query, key, value, inside)


def _image_kernel(
    projected: Any, divisor: Any, out: Any, *, patches: int, width: int, rows: int
) -> None:
    image, head, begin = pl.program_id(0), pl.program_id(1), pl.program_id(2) * rows
    padded = _power_of_two(width)
    is_real = jnp.arange(padded) < width

    def load(which: int, begin: jax.Array, count: int) -> jax.Array:
        inside = begin + jnp.arange(count) < patches
        part: jax.Array = triton.load(
            projected.at[image, pl.ds(begin, count), pl.ds(which, 1), head, pl.ds(0, padded)],
            mask=inside[:, None, None] & is_real[None, None, :],
            other=0,
        )
        return part.reshape(count, padded)

    wide = load(0, begin, rows).astype(jnp.float32) / divisor[0].astype(jnp.float32)
    query = wide.astype(projected.dtype)
    block = min(2 * KEYS, _power_of_two(patches))

    def read(j: jax.Array, sums: _Sums) -> _Sums:
        key, value = load(1, j * block, block), load(2, j * block, block)
        return _after(sums, [query], [key], value, j * block + jnp.arange(block) < patches)

    sums = jax.lax.fori_loop(0, pl.cdiv(patches, block), read, _no_keys(rows, padded))
    triton.store(
        out.at[image, pl.ds(begin, rows), head, pl.ds(0, padded)],
        (sums.values / sums.total[:, None]).astype(out.dtype),
        mask=(begin + jnp.arange(rows) < patches)[:, None] & is_real[None, :],
    )


def _power_of_two(size: int) -> int:
    """The next one up, at least 16: Triton's matrix products take no other sizes."""
    return max(16, 1 << (size - 1).bit_length())

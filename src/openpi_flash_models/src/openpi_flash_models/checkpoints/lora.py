"""Merges openpi's low-rank adapters (LoRA, arXiv 2106.09685) into the weights they adapt.

Once merged, an adapted checkpoint is a plain one, for any framework. The rules are those of the
modules that trained the adapters (``openpi/models/lora.py``); two of them are unusual:

    q, kv            W + s A B                        per head
    attention out    W[n] + s A[n] (sum over n of B)  the adapter sums over heads twice
    feed-forward     W + A B                          without s

with s = alpha / rank, or alpha / sqrt(rank) for rank-stabilised adapters (arXiv 2312.03732).
Checkpoints do not hold alpha; in every variant of openpi it equals the rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from openpi_flash_models.errors import CheckpointError

LeafPath = tuple[str, ...]


@dataclass(frozen=True)
class LoraScaling:
    """The factor s of the attention's adapters, by expert; 1 in every variant of openpi."""

    language: float = 1.0
    expert: float = 1.0


def has_lora(leaves: Mapping[LeafPath, Any]) -> bool:
    """Whether there is anything to merge."""
    return any("lora_" in path[-1] for path in leaves)


def merge_lora(
    leaves: Mapping[LeafPath, Any],
    source: str,
    scaling: LoraScaling = LoraScaling(),
    *,
    xp: Any = np,
) -> dict[LeafPath, Any]:
    """Merge the adapters; the result is a plain model with the same outputs.

    Sums are made in float32. A merged weight has the widest type of its parts, so that an adapter
    in float32 on frozen weights in bfloat16 (which is how they are trained) loses nothing; all
    other leaves are returned as they are.

    Args:
        leaves: tensors by path, stored dtypes.
        source: what to call the checkpoint in an error.
        scaling: see the module.
        xp: ``numpy``, or ``jax.numpy`` for leaves that are traced.

    Raises:
        CheckpointError: an adapter lacks its other half or what it adapts, or does not fit.
    """
    merged = {path: leaf for path, leaf in leaves.items() if "lora_" not in path[-1]}
    for path in leaves:
        if not path[-1].endswith("lora_a"):
            if "lora_" in path[-1] and (*path[:-1], _a_name(path[-1])) not in leaves:
                raise CheckpointError(f"{source}: {'/'.join(path)} has no lora_a")
            continue
        # attention: <module>/{w,lora_a,lora_b}; feed-forward: <weight>, <weight>_lora_{a,b}
        stem = path[-1].removesuffix("lora_a").rstrip("_")
        weight = (*path[:-1], stem or "w")
        other = (*path[:-1], path[-1][: -len("lora_a")] + "lora_b")
        for needed in (weight, other):
            if needed not in leaves:
                raise CheckpointError(f"{source}: {'/'.join(path)} needs {'/'.join(needed)}")
        is_expert = (path[-2]).endswith("_1")
        scale = scaling.expert if is_expert else scaling.language
        try:
            merged[weight] = _merged(
                leaves[weight],
                leaves[path],
                leaves[other],
                scale=scale if not stem else 1.0,
                sums_heads=path[-2].startswith("attn_vec_einsum"),
                xp=xp,
            )
        except ValueError as error:
            raise CheckpointError(
                f"{source}: {'/'.join(path)} does not fit {'/'.join(weight)}: {error}"
            ) from error
    return merged


def adapted(weight: Any, a: Any, b: Any, *, scale: float, sums_heads: bool) -> Any:
    """A weight with its adapter, in float32; arrays of any library, with any leading axes.

    Args:
        weight: [..., D, H] or [..., N, H, D].
        a: [..., r] instead of the last axis.
        b: [..., r, :] instead of the last but one.
        scale: of the product.
        sums_heads: whether ``b`` is summed over the heads first, as of the attention's output.

    Raises:
        ValueError: the shapes do not fit.
    """
    if weight.shape != (*a.shape[:-1], b.shape[-1]):
        raise ValueError(f"shapes {weight.shape}, {a.shape} and {b.shape}")
    wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
    if sums_heads:
        wide_b = wide_b.sum(axis=-3, keepdims=True)
    return weight.astype(np.float32) + np.float32(scale) * (wide_a @ wide_b)


def _merged(weight: Any, a: Any, b: Any, *, scale: float, sums_heads: bool, xp: Any) -> Any:
    if weight.shape != (*a.shape[:-1], b.shape[-1]):
        raise ValueError(f"shapes {weight.shape}, {a.shape} and {b.shape}")
    if xp is np:
        result = weight.astype(np.float32)
        # layer by layer: the product of all layers at once would double the memory of a load
        for layer in range(len(result)):
            result[layer] = adapted(
                result[layer], a[layer], b[layer], scale=scale, sums_heads=sums_heads
            )
    else:
        result = adapted(weight, a, b, scale=scale, sums_heads=sums_heads)
    dtypes = {np.dtype(leaf.dtype) for leaf in (weight, a, b)}
    return result if np.dtype(np.float32) in dtypes else result.astype(_narrow(dtypes))


def _narrow(dtypes: set[np.dtype[Any]]) -> np.dtype[Any]:
    return dtypes.pop() if len(dtypes) == 1 else np.dtype(ml_dtypes.bfloat16)


def _a_name(name: str) -> str:
    return name.removesuffix("lora_b") + "lora_a"

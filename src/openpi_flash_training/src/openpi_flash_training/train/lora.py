"""Low-rank adapters (LoRA, arXiv 2106.09685) as openpi trains them, and which leaves are trained.

The rules are those of openpi's ``models/lora.py`` and of ``get_freeze_filter`` of its configs:

    trained   all adapters, the vision tower, the heads; the expert that has no adapters
    frozen    every other leaf under ``llm`` of an expert with adapters: weights, norms, and for
              the language expert the embedding; kept in bfloat16

A layer's adapters are merged into its weights when it runs (``layer_weights``), in float32.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Params = Mapping[str, Any]

_DEVIATION = 0.01
_IS_NONE = {"is_leaf": lambda leaf: leaf is None}


@dataclass(frozen=True)
class Adapters:
    """The adapters of one expert.

    Attributes:
        rank: inner width.
        alpha: the attention's adapters are scaled by ``alpha / rank``; those of the feed-forward
            layers are not scaled.
        rank_stabilised: scale by ``alpha / sqrt(rank)`` instead (arXiv 2312.03732).
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False

    @property
    def scale(self) -> float:
        """The factor of the attention's adapters."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


@dataclass(frozen=True)
class LoraSettings:
    """Which experts have adapters; None: that expert is trained as a whole."""

    language: Adapters | None = Adapters(16, 16.0)
    expert: Adapters | None = Adapters(32, 32.0)

    def of(self, path: tuple[str, ...]) -> Adapters | None:
        """The adapters of the expert that a leaf under ``llm`` belongs to."""
        return self.expert if _is_of_expert(path) else self.language


def add_adapters(params: Params, lora: LoraSettings, key: jax.Array) -> dict[str, Any]:
    """The parameters with new adapters, both halves from N(0, 0.01) as in openpi.

    Args:
        params: of a model without adapters; may be abstract.
        lora: which adapters; those of an expert that the model lacks are left out.
        key: of the run.
    """

    def with_adapters(tree: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        result = {name: with_adapters(part, (*path, name)) for name, part in tree.items()}
        for name, weight in tree.items():
            stem = {"w": "", "gating_einsum": "gating_einsum_", "linear": "linear_"}.get(name)
            adapters = lora.of(path)
            if stem is None or adapters is None or "llm" not in path:
                continue
            *lead, fan_in, fan_out = weight.shape
            sizes = {"a": (fan_in, adapters.rank), "b": (adapters.rank, fan_out)}
            for half, size in sizes.items():
                leaf = f"{stem}lora_{half}"
                of_name = jax.random.fold_in(key, zlib.crc32("/".join((*path, leaf)).encode()))
                result[leaf] = _DEVIATION * jax.random.normal(of_name, (*lead, *size))
        return result

    made: dict[str, Any] = with_adapters(params, ())
    return made


def trainable(params: Params, lora: LoraSettings | None) -> dict[str, Any]:
    """A tree like ``params`` of bools: which leaves are trained; ``lora`` None: all.

    ``params`` may be abstract; they hold the adapters.
    """

    def is_trained(keys: Any, _: Any) -> bool:
        path = tuple(key.key for key in keys)
        if lora is None or "llm" not in path or "lora_" in path[-1]:
            return True
        return lora.of(path) is None

    mask: dict[str, Any] = jax.tree_util.tree_map_with_path(is_trained, params)
    return mask


def split(params: Params, mask: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trained and frozen leaves as two trees like ``params``, None in the other's places.

    Differentiate by the first: ``jax.grad(lambda trained: loss(join(trained, frozen), ...))``.
    """
    trained = jax.tree.map(lambda leaf, kept: leaf if kept else None, params, mask)
    frozen = jax.tree.map(lambda leaf, kept: None if kept else leaf, params, mask)
    return trained, frozen


def join(trained: Params, frozen: Params) -> dict[str, Any]:
    """The inverse of :func:`split`."""
    joined: dict[str, Any] = jax.tree.map(
        lambda one, other: other if one is None else one, trained, frozen, **_IS_NONE
    )
    return joined


def narrow_frozen(params: Params, mask: Params) -> dict[str, Any]:
    """Frozen leaves in bfloat16, as openpi trains with; the others unchanged."""
    narrowed: dict[str, Any] = jax.tree.map(
        lambda leaf, kept: leaf if kept else leaf.astype(jnp.bfloat16), params, mask
    )
    return narrowed


def scale_adapters(params: Params, lora: LoraSettings) -> dict[str, Any]:
    """The parameters with the attention's adapters scaled, so that they are merged as they are."""

    def scaled(keys: Any, leaf: Any) -> Any:
        path = tuple(key.key for key in keys)
        adapters = lora.of(path) if "llm" in path else None
        # of the feed-forward layers it has a longer name
        if adapters is None or path[-1] != "lora_b" or adapters.scale == 1.0:
            return leaf
        return leaf * adapters.scale

    made: dict[str, Any] = jax.tree_util.tree_map_with_path(scaled, params)
    return made


def has_adapters(params: Params) -> bool:
    """Whether the parameters hold adapters."""
    paths = jax.tree.leaves_with_path(params)
    return any("lora_" in getattr(path[-1], "key", "") for path, _ in paths)


def _is_of_expert(path: tuple[str, ...]) -> bool:
    return any(part.endswith("_1") for part in path)

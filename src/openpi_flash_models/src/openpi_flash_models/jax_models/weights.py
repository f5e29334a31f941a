"""Lays out the checkpoint's tree for the device, once, at load.

    vision     SigLIP: embedding, pos_embedding, layers, final_norm, head
    embedding  [V, D]
    language   expert 0: layers, final_norm
    expert     expert 1 (not pi0-FAST)
    heads      action_in_proj, action_out_proj, ... (not pi0-FAST)

``layers`` is one tree of stacked arrays [L, ...], or a list of one tree per layer. A layer of
a language tower has ``q`` and ``kv`` or fused ``qkv``; ``out``; ``gating`` or fused ``gate_up``;
``down``; two norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.model.rearrangements import Layout
from openpi_flash_models.model.shape import ModelShape, expected_shapes

Params = Mapping[str, Any]

_HEADS = {
    "pi0": (
        "action_in_proj",
        "action_out_proj",
        "state_proj",
        "action_time_mlp_in",
        "action_time_mlp_out",
    ),
    "pi05": ("action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out"),
    "pi0_fast": (),
}


def lay_out(
    tree: Params, shape: ModelShape, layout: Layout, *, with_actions: bool = True
) -> dict[str, Any]:
    """Put the weights of a model on the default device.

    Args:
        tree: the checkpoint's nested tree, without ``params``; numpy arrays (any JAX array works).
        shape: of the model.
        layout: what to fuse, and whether layers are apart.
        with_actions: whether to load the action expert; a planner needs none.
    """
    return jax.device_put(_arranged(tree, shape, layout, with_actions, np))


def abstract_weights(shape: ModelShape, layout: Layout, dtype: str) -> dict[str, Any]:
    """Shapes and dtypes of a model's weights without the weights, for counting."""
    leaves = {
        tuple(name.split("/")): struct(size, dtype) for name, size in expected_shapes(shape).items()
    }

    def arranged(tree: Params) -> dict[str, Any]:
        return _arranged(tree, shape, layout, True, jnp)

    abstract: dict[str, Any] = jax.eval_shape(arranged, nest(leaves)["params"])
    return abstract


def struct(size: tuple[int, ...], dtype: Any) -> Any:
    """The shape and dtype of an array without its data."""
    abstract: Any = jax.ShapeDtypeStruct
    return abstract(size, dtype)


def _arranged(
    tree: Params, shape: ModelShape, layout: Layout, with_actions: bool, xp: Any
) -> dict[str, Any]:
    """See :func:`lay_out`; ``xp`` is ``numpy`` or ``jax.numpy``."""
    vlm = tree["PaliGemma"]
    weights: dict[str, Any] = {
        "vision": _vision(vlm["img"], layout, xp),
        "embedding": vlm["llm"]["embedder"]["input_embedding"],
        "language": _tower(vlm["llm"], "", layout, xp),
    }
    if with_actions and shape.kind != "pi0_fast":
        weights["expert"] = _tower(vlm["llm"], "_1", layout, xp)
        weights["heads"] = {name: tree[name] for name in _HEADS[shape.kind]}
    return weights


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


def _tower(llm: Params, suffix: str, layout: Layout, xp: Any) -> dict[str, Any]:
    stacked = llm["layers"]
    attention, mlp = stacked["attn"], stacked[f"mlp{suffix}"]
    q = attention[f"q_einsum{suffix}"]["w"]  # [L, N, D, H]
    kv = attention[f"kv_einsum{suffix}"]["w"]  # [L, 2, K, D, H]
    out, gating = attention[f"attn_vec_einsum{suffix}"]["w"], mlp["gating_einsum"]
    layers = {
        "down": mlp["linear"],
        "pre_attention_norm": stacked[f"pre_attention_norm{suffix}"],
        "pre_ffw_norm": stacked[f"pre_ffw_norm{suffix}"],
    }
    if layout.fuse_projections:
        depth, _, width, _ = q.shape
        parts = [_columns(part, xp) for part in (q, kv[:, 0], kv[:, 1])]
        layers["qkv"] = xp.concatenate(parts, axis=-1)
        layers["out"] = out.reshape(depth, -1, width)
        gate, up = gating[:, 0], gating[:, 1]
        layers["gate_up"] = xp.concatenate([xp.asarray(gate), xp.asarray(up)], axis=-1)
    else:
        layers |= {"q": q, "kv": kv, "out": out, "gating": gating}
    return {
        "layers": _per_layer(layers) if layout.unroll_layers else layers,
        "final_norm": llm[f"final_norm{suffix}"],
    }


def _columns(heads: Any, xp: Any) -> Any:
    """[L, N, D, H] to [L, D, N * H]."""
    array = xp.asarray(heads)
    depth, count, width, head_width = array.shape
    return array.transpose(0, 2, 1, 3).reshape(depth, width, count * head_width)


def _vision(img: Params, layout: Layout, xp: Any) -> dict[str, Any]:
    block = img["Transformer"]["encoderblock"]
    attention, mlp = block["MultiHeadDotProductAttention_0"], block["MlpBlock_0"]
    layers = {
        "norm_0": block["LayerNorm_0"],
        "norm_1": block["LayerNorm_1"],
        "mlp_in": mlp["Dense_0"],
        "mlp_out": mlp["Dense_1"],
    }
    if layout.fuse_projections:
        depth, width = attention["query"]["kernel"].shape[:2]
        fused = {
            part: xp.concatenate(
                [
                    xp.asarray(attention[name][part]).reshape(*lead, -1)
                    for name in ("query", "key", "value")
                ],
                axis=-1,
            )
            for part, lead in (("kernel", (depth, width)), ("bias", (depth,)))
        }
        layers["qkv"] = fused
    else:
        layers |= {name: attention[name] for name in ("query", "key", "value")}
    layers["out"] = attention["out"]
    return {
        "embedding": img["embedding"],
        "pos_embedding": img["pos_embedding"],
        "layers": _per_layer(layers) if layout.unroll_layers else layers,
        "final_norm": img["Transformer"]["encoder_norm"],
        "head": img["head"],
    }


def _per_layer(stacked: dict[str, Any]) -> list[dict[str, Any]]:
    depth = jax.tree.leaves(stacked)[0].shape[0]
    return [jax.tree.map(lambda w, i=i: w[i], stacked) for i in range(depth)]

"""The checkpoint's tree as programs read it, and back.

    vision     SigLIP: embedding, pos_embedding, layers, final_norm, head
    embedding  [V, D]
    language   expert 0: layers, final_norm
    expert     expert 1 (not pi0-FAST)
    heads      action_in_proj, action_out_proj, ... (not pi0-FAST)

``layers`` is one tree of stacked arrays [L, ...], or a list of one tree per layer. A layer of
a language tower has ``q`` and ``kv`` or fused ``qkv``; ``out``; ``gating`` or fused ``gate_up``;
``down``; two norms; and ``lora`` (adapters by the name of what they adapt) if the tree has them.

Arrays are only moved: gradients pass, and the round trip is exact to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from openpi_flash_models.model.rearrangements import Layout
from openpi_flash_models.model.shape import ModelShape

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
_VISION_LAYER = (("norm_0", "LayerNorm_0"), ("norm_1", "LayerNorm_1"))
_VISION_PROJECTIONS = ("query", "key", "value")


PARTS = ("vision", "embedding", "language", "expert", "heads")
"""Of a model's weights, in order."""


def arrange(
    tree: Params, shape: ModelShape, layout: Layout, xp: Any, *, parts: Sequence[str] = PARTS
) -> dict[str, Any]:
    """The weights of a model, as programs read them.

    Args:
        tree: the checkpoint's nested tree, without ``params``; arrays of ``xp``.
        shape: of the model.
        layout: what to fuse, and whether layers are apart.
        xp: ``numpy`` or ``jax.numpy``.
        parts: which of ``PARTS``; those that a kind of model does not have are left out.

    Raises:
        ValueError: projections with adapters cannot be fused.
    """
    vlm = tree["PaliGemma"]
    arranged: dict[str, Callable[[], Any]] = {
        "vision": lambda: _vision(vlm["img"], layout, xp),
        "embedding": lambda: vlm["llm"]["embedder"]["input_embedding"],
        "language": lambda: _tower(vlm["llm"], "", layout, xp),
    }
    if shape.kind != "pi0_fast":
        arranged["expert"] = lambda: _tower(vlm["llm"], "_1", layout, xp)
        arranged["heads"] = lambda: {name: tree[name] for name in _HEADS[shape.kind]}
    return {name: arranged[name]() for name in parts if name in arranged}


def restore(weights: Params, shape: ModelShape, xp: Any) -> dict[str, Any]:
    """The inverse of :func:`arrange`, of any layout: openpi's tree, without ``params``."""
    llm: dict[str, Any] = {"embedder": {"input_embedding": weights["embedding"]}}
    layers: dict[str, Any] = {"attn": {}}
    for tower, suffix in (("language", ""), ("expert", "_1")):
        if tower in weights:
            llm[f"final_norm{suffix}"] = weights[tower]["final_norm"]
            _restore_tower(weights[tower]["layers"], suffix, shape, layers, xp)
    vision = {"img": _restore_vision(weights["vision"], shape, xp)}
    return {"PaliGemma": vision | {"llm": llm | {"layers": layers}}} | dict(
        weights.get("heads", {})
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
    adapters = {
        name: {half: module[f"{stem}lora_{half}"] for half in ("a", "b")}
        for name, module, stem in _adapted(attention, mlp, suffix)
        if f"{stem}lora_a" in module
    }
    if adapters:
        layers["lora"] = adapters
    if layout.fuse_projections:
        if adapters:
            raise ValueError("projections with adapters cannot be fused: merge the adapters first")
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


def _restore_tower(
    given: Any, suffix: str, shape: ModelShape, into: dict[str, Any], xp: Any
) -> None:
    layers = _stacked(given, xp)
    depth, n, k, h = shape.depth, shape.heads, shape.key_heads, shape.head_width
    if "qkv" in layers:
        width = layers["qkv"].shape[1]
        heads = layers["qkv"].reshape(depth, width, n + 2 * k, h).transpose(0, 2, 1, 3)
        q = heads[:, :n]
        kv = xp.stack([heads[:, n : n + k], heads[:, n + k :]], axis=1)
        out = layers["out"].reshape(depth, n, h, width)
        gating = xp.stack(xp.split(layers["gate_up"], 2, axis=-1), axis=1)
    else:
        q, kv, out, gating = (layers[name] for name in ("q", "kv", "out", "gating"))
    attention, mlp = into["attn"], {"gating_einsum": gating, "linear": layers["down"]}
    for name, w in (("q_einsum", q), ("kv_einsum", kv), ("attn_vec_einsum", out)):
        attention[f"{name}{suffix}"] = {"w": w}
    for name, module, stem in _adapted(attention, mlp, suffix):
        for half, leaf in layers.get("lora", {}).get(name, {}).items():
            module[f"{stem}lora_{half}"] = leaf
    into[f"mlp{suffix}"] = mlp
    for name in ("pre_attention_norm", "pre_ffw_norm"):
        into[f"{name}{suffix}"] = layers[name]


def _adapted(attention: Params, mlp: Any, suffix: str) -> tuple[tuple[str, Any, str], ...]:
    """What may have adapters: name in a layer, module, and how its adapters' names begin."""
    return (
        ("q", attention[f"q_einsum{suffix}"], ""),
        ("kv", attention[f"kv_einsum{suffix}"], ""),
        ("out", attention[f"attn_vec_einsum{suffix}"], ""),
        ("gating", mlp, "gating_einsum_"),
        ("down", mlp, "linear_"),
    )


def _columns(heads: Any, xp: Any) -> Any:
    """[L, N, D, H] to [L, D, N * H]."""
    array = xp.asarray(heads)
    depth, count, width, head_width = array.shape
    return array.transpose(0, 2, 1, 3).reshape(depth, width, count * head_width)


def _vision(img: Params, layout: Layout, xp: Any) -> dict[str, Any]:
    block = img["Transformer"]["encoderblock"]
    attention, mlp = block["MultiHeadDotProductAttention_0"], block["MlpBlock_0"]
    layers = {name: block[theirs] for name, theirs in _VISION_LAYER}
    layers |= {"mlp_in": mlp["Dense_0"], "mlp_out": mlp["Dense_1"], "out": attention["out"]}
    if layout.fuse_projections:
        depth, width = attention["query"]["kernel"].shape[:2]
        fused = {
            part: xp.concatenate(
                [
                    xp.asarray(attention[name][part]).reshape(*lead, -1)
                    for name in _VISION_PROJECTIONS
                ],
                axis=-1,
            )
            for part, lead in (("kernel", (depth, width)), ("bias", (depth,)))
        }
        layers["qkv"] = fused
    else:
        layers |= {name: attention[name] for name in _VISION_PROJECTIONS}
    return {
        "embedding": img["embedding"],
        "pos_embedding": img["pos_embedding"],
        "layers": _per_layer(layers) if layout.unroll_layers else layers,
        "final_norm": img["Transformer"]["encoder_norm"],
        "head": img["head"],
    }


def _restore_vision(vision: Params, shape: ModelShape, xp: Any) -> dict[str, Any]:
    layers = _stacked(vision["layers"], xp)
    depth, heads, width = shape.vision_depth, shape.vision_heads, shape.vision_width
    attention = {"out": layers["out"]}
    if "qkv" in layers:
        kernels = xp.split(layers["qkv"]["kernel"], 3, axis=-1)
        biases = xp.split(layers["qkv"]["bias"], 3, axis=-1)
        for name, kernel, bias in zip(_VISION_PROJECTIONS, kernels, biases, strict=True):
            attention[name] = {
                "kernel": kernel.reshape(depth, width, heads, -1),
                "bias": bias.reshape(depth, heads, -1),
            }
    else:
        attention |= {name: layers[name] for name in _VISION_PROJECTIONS}
    block = {theirs: layers[name] for name, theirs in _VISION_LAYER}
    block["MultiHeadDotProductAttention_0"] = attention
    block["MlpBlock_0"] = {"Dense_0": layers["mlp_in"], "Dense_1": layers["mlp_out"]}
    return {
        "embedding": vision["embedding"],
        "pos_embedding": vision["pos_embedding"],
        "Transformer": {"encoderblock": block, "encoder_norm": vision["final_norm"]},
        "head": vision["head"],
    }


def _per_layer(stacked: dict[str, Any]) -> list[dict[str, Any]]:
    depth = jax.tree.leaves(stacked)[0].shape[0]
    return [jax.tree.map(lambda w, i=i: w[i], stacked) for i in range(depth)]


def _stacked(layers: Any, xp: Any) -> Any:
    if not isinstance(layers, list):
        return layers
    return jax.tree.map(lambda *each: xp.stack(each), *layers)

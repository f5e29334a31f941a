"""Names and layouts of openpi's PyTorch tensors, in terms of its JAX tree.

Source: ``examples/convert_jax_model_to_pytorch.py`` of openpi. Every leaf of the tree is cut into
pieces, one per PyTorch tensor: ``leaf[index]``, its axes permuted, then joined to the tensor's
shape. The same table reads and writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.inputs import IMAGE_SIZE
from openpi_flash_models.model.shape import ModelKind, ModelShape, expected_shapes

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_ROOT = "paligemma_with_expert"
_VISION = f"{_ROOT}.paligemma.model.vision_tower.vision_model"
_PROJECTOR = f"{_ROOT}.paligemma.model.multi_modal_projector.linear"
_LANGUAGE = f"{_ROOT}.paligemma.model.language_model"
_EXPERT = f"{_ROOT}.gemma_expert.model"
_IMG = "params/PaliGemma/img"
_LLM = "params/PaliGemma/llm"

EMBEDDING = f"{_ROOT}.paligemma.lm_head.weight"
TIED_EMBEDDING = f"{_LANGUAGE}.embed_tokens.weight"
"""The same tensor (embedding and output head are tied); files hold one name or both."""
EXPERT_HEAD = f"{_ROOT}.gemma_expert.lm_head.weight"
"""Random numbers in every file that openpi's converter writes; nothing ever reads them."""

SO400M_HEADS = {1152: 16}
"""Heads of the vision towers that openpi has, by width: PyTorch's shapes do not tell them."""

_SAME, _TRANSPOSED = (), (1, 0)
_CONVOLUTION = (3, 2, 0, 1)  # [h, w, in, out] -> [out, in, h, w]
_FROM_HEADS = (1, 2, 0)  # [in, heads, width] -> [heads x width, in]
_HEADS_FIRST = (0, 2, 1)  # [heads, in, width] -> [heads x width, in]
_TO_HEADS = (2, 0, 1)  # [heads, width, out] -> [out, heads x width]

# (name before transformers 4.52, name now)
_OLD_NAMES = (
    (f"{_ROOT}.paligemma.language_model.model.", f"{_LANGUAGE}."),
    (f"{_ROOT}.paligemma.language_model.lm_head.", f"{_ROOT}.paligemma.lm_head."),
    (f"{_ROOT}.paligemma.vision_tower.", f"{_ROOT}.paligemma.model.vision_tower."),
    (
        f"{_ROOT}.paligemma.multi_modal_projector.",
        f"{_ROOT}.paligemma.model.multi_modal_projector.",
    ),
)


@dataclass(frozen=True)
class Piece:
    """One PyTorch tensor of a leaf.

    Attributes:
        key: the tensor's name.
        index: where in the leaf.
        axes: how ``leaf[index]`` is permuted; empty leaves it.
        shape: of the tensor.
    """

    key: str
    index: tuple[int, ...]
    axes: tuple[int, ...]
    shape: Shape


def canonical(key: str) -> str:
    """A key as openpi's converter writes it, from any spelling in use."""
    key = key.removeprefix("model.")
    for old, new in _OLD_NAMES:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def model_pieces(sizes: ModelShape) -> dict[str, list[Piece]]:
    """The pieces of every leaf, by the leaf's name."""
    leaves = expected_shapes(sizes)
    table = _vision_rows(sizes.vision_depth)
    table += _expert_rows("", _LANGUAGE, sizes, adaptive=False)
    if sizes.kind != "pi0_fast":
        table += _expert_rows("_1", _EXPERT, sizes, adaptive=sizes.kind == "pi05")
    for name in leaves:
        if not name.startswith((_IMG, _LLM)):
            _, layer, kind = name.split("/")
            key = "weight" if kind == "kernel" else "bias"
            table.append((name, (), f"{layer}.{key}", _TRANSPOSED if kind == "kernel" else _SAME))
    pieces: dict[str, list[Piece]] = {name: [] for name in leaves}
    for leaf, index, key, axes in table:
        shape = leaves[leaf][len(index) :]
        permuted = tuple(shape[axis] for axis in axes) if axes else shape
        pieces[leaf].append(Piece(key, index, axes, _joined(leaf, permuted)))
    return pieces


def read_sizes(shapes: Shapes, source: str, vision_heads: int | None, key_heads: int) -> ModelShape:
    """Every size of a model, from shapes of PyTorch tensors under canonical keys.

    Args:
        shapes: by key.
        source: what to call the file in an error.
        vision_heads: of the vision tower; None: its width tells them.
        key_heads: key and value heads of each expert.

    Raises:
        CheckpointError: a tensor that tells a size is missing.
    """

    def shape(key: str, rank: int) -> Shape:
        if key not in shapes:
            raise CheckpointError(f"{source}: missing tensor {key}")
        if len(shapes[key]) != rank:
            raise CheckpointError(
                f"{source}: mis-shaped tensor {key} (shape {shapes[key]}, expected {rank} axes)"
            )
        return shapes[key]

    vision_width, _, patch, _ = shape(f"{_VISION}.embeddings.patch_embedding.weight", 4)
    if vision_heads is None:
        if vision_width not in SO400M_HEADS:
            raise CheckpointError(
                f"{source}: cannot tell how many heads a vision tower {vision_width} wide has; "
                'add "vision_heads" to the config.json beside it'
            )
        vision_heads = SO400M_HEADS[vision_width]
    key_rows = shape(f"{_LANGUAGE}.layers.0.self_attn.k_proj.weight", 2)[0]
    query_rows, width = shape(f"{_LANGUAGE}.layers.0.self_attn.q_proj.weight", 2)
    head_width = key_rows // key_heads
    if min(key_rows, vision_heads, patch) == 0 or head_width == 0:
        raise CheckpointError(f"{source}: a tensor of {_LANGUAGE}.layers.0 is empty")
    kind = _kind(shapes)
    expert: dict[str, int] = {}
    if kind != "pi0_fast":
        expert = {
            "expert_width": shape(f"{_EXPERT}.layers.0.self_attn.q_proj.weight", 2)[1],
            "expert_mlp": shape(f"{_EXPERT}.layers.0.mlp.gate_proj.weight", 2)[0],
            "action_dim": shape("action_in_proj.weight", 2)[1],
        }
    return ModelShape(
        kind=kind,
        patch=patch,
        vision_width=vision_width,
        vision_depth=_depth(shapes, f"{_VISION}.encoder.layers"),
        vision_heads=vision_heads,
        vision_mlp=shape(f"{_VISION}.encoder.layers.0.mlp.fc1.weight", 2)[0],
        width=width,
        depth=_depth(shapes, f"{_LANGUAGE}.layers"),
        mlp=shape(f"{_LANGUAGE}.layers.0.mlp.gate_proj.weight", 2)[0],
        heads=query_rows // head_width,
        key_heads=key_heads,
        head_width=head_width,
        vocabulary=shape(EMBEDDING, 2)[0],
        image_size=_image_size(shapes, patch),
        **expert,
    )


def _image_size(shapes: Shapes, patch: int) -> int:
    """As many rows of patches as of positions; openpi's where the positions are no square."""
    positions = shapes.get(f"{_VISION}.embeddings.position_embedding.weight", (0,))[0]
    side = math.isqrt(positions)
    return side * patch if side and side**2 == positions else IMAGE_SIZE


def without_leftovers(names: Mapping[str, str]) -> dict[str, str]:
    """Drop tensors that no model reads, and give every other tensor its canonical name.

    Dropped are the action expert's output head, the second name of the embedding and, in pi0.5
    files of LeRobot, tensors of the pi0 that they were made from.

    Args:
        names: canonical key -> key in the file.
    """
    result = {key: name for key, name in names.items() if key != EXPERT_HEAD}
    tied = result.pop(TIED_EMBEDDING, None)
    if tied is not None:
        result.setdefault(EMBEDDING, tied)
    if not _is_adaptive(result):
        return result
    plain_norm = re.compile(re.escape(_EXPERT) + r"\.(layers\.\d+\.\w+_layernorm|norm)\.weight")
    result = {
        key: name
        for key, name in result.items()
        if not key.startswith("state_proj.") and not plain_norm.fullmatch(key)
    }
    for part in ("in", "out"):
        for kind in ("weight", "bias"):
            other = result.pop(f"action_time_mlp_{part}.{kind}", None)
            if other is not None:
                result.setdefault(f"time_mlp_{part}.{kind}", other)
    return result


_Row = tuple[str, tuple[int, ...], str, tuple[int, ...]]


def _vision_rows(depth: int) -> list[_Row]:
    block = f"{_IMG}/Transformer/encoderblock"
    attention = f"{block}/MultiHeadDotProductAttention_0"
    rows: list[_Row] = [
        (
            f"{_IMG}/embedding/kernel",
            (),
            f"{_VISION}.embeddings.patch_embedding.weight",
            _CONVOLUTION,
        ),
        (f"{_IMG}/embedding/bias", (), f"{_VISION}.embeddings.patch_embedding.bias", _SAME),
        (f"{_IMG}/pos_embedding", (), f"{_VISION}.embeddings.position_embedding.weight", _SAME),
        (f"{_IMG}/Transformer/encoder_norm/scale", (), f"{_VISION}.post_layernorm.weight", _SAME),
        (f"{_IMG}/Transformer/encoder_norm/bias", (), f"{_VISION}.post_layernorm.bias", _SAME),
        (f"{_IMG}/head/kernel", (), f"{_PROJECTOR}.weight", _TRANSPOSED),
        (f"{_IMG}/head/bias", (), f"{_PROJECTOR}.bias", _SAME),
    ]
    for i in range(depth):
        layer = f"{_VISION}.encoder.layers.{i}"
        for leaf, key in (("LayerNorm_0", "layer_norm1"), ("LayerNorm_1", "layer_norm2")):
            rows.append((f"{block}/{leaf}/scale", (i,), f"{layer}.{key}.weight", _SAME))
            rows.append((f"{block}/{leaf}/bias", (i,), f"{layer}.{key}.bias", _SAME))
        for leaf, key in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            name = f"{layer}.self_attn.{key}"
            rows.append((f"{attention}/{leaf}/kernel", (i,), f"{name}.weight", _FROM_HEADS))
            rows.append((f"{attention}/{leaf}/bias", (i,), f"{name}.bias", _SAME))
        out = f"{layer}.self_attn.out_proj"
        rows.append((f"{attention}/out/kernel", (i,), f"{out}.weight", _TO_HEADS))
        rows.append((f"{attention}/out/bias", (i,), f"{out}.bias", _SAME))
        for leaf, key in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            name = f"{layer}.mlp.{key}"
            rows.append((f"{block}/MlpBlock_0/{leaf}/kernel", (i,), f"{name}.weight", _TRANSPOSED))
            rows.append((f"{block}/MlpBlock_0/{leaf}/bias", (i,), f"{name}.bias", _SAME))
    return rows


def _expert_rows(suffix: str, root: str, sizes: ModelShape, *, adaptive: bool) -> list[_Row]:
    layers = f"{_LLM}/layers"
    rows: list[_Row] = []
    if not suffix:
        rows.append((f"{_LLM}/embedder/input_embedding", (), EMBEDDING, _SAME))

    def norm(leaf: str, index: tuple[int, ...], key: str) -> None:
        if adaptive:
            rows.append((f"{leaf}/Dense_0/kernel", index, f"{key}.dense.weight", _TRANSPOSED))
            rows.append((f"{leaf}/Dense_0/bias", index, f"{key}.dense.bias", _SAME))
        else:
            rows.append((f"{leaf}/scale", index, f"{key}.weight", _SAME))

    for i in range(sizes.depth):
        attention, mlp = f"{root}.layers.{i}.self_attn", f"{root}.layers.{i}.mlp"
        q, kv = f"{layers}/attn/q_einsum{suffix}/w", f"{layers}/attn/kv_einsum{suffix}/w"
        gating, linear = f"{layers}/mlp{suffix}/gating_einsum", f"{layers}/mlp{suffix}/linear"
        rows.append((q, (i,), f"{attention}.q_proj.weight", _HEADS_FIRST))
        rows.append((kv, (i, 0), f"{attention}.k_proj.weight", _HEADS_FIRST))
        rows.append((kv, (i, 1), f"{attention}.v_proj.weight", _HEADS_FIRST))
        out = f"{layers}/attn/attn_vec_einsum{suffix}/w"
        rows.append((out, (i,), f"{attention}.o_proj.weight", _TO_HEADS))
        rows.append((gating, (i, 0), f"{mlp}.gate_proj.weight", _TRANSPOSED))
        rows.append((gating, (i, 1), f"{mlp}.up_proj.weight", _TRANSPOSED))
        rows.append((linear, (i,), f"{mlp}.down_proj.weight", _TRANSPOSED))
        norm(f"{layers}/pre_attention_norm{suffix}", (i,), f"{root}.layers.{i}.input_layernorm")
        norm(f"{layers}/pre_ffw_norm{suffix}", (i,), f"{root}.layers.{i}.post_attention_layernorm")
    norm(f"{_LLM}/final_norm{suffix}", (), f"{root}.norm")
    return rows


def _joined(leaf: str, permuted: Shape) -> Shape:
    """The tensor's shape: attention's heads and head width are one axis there."""
    if leaf.endswith("pos_embedding"):
        return permuted[1:]
    if "/query/" in leaf or "/key/" in leaf or "/value/" in leaf:
        return (permuted[0] * permuted[1], *permuted[2:])
    if "/q_einsum" in leaf or "/kv_einsum" in leaf:
        return (permuted[0] * permuted[1], permuted[2])
    if "/out/kernel" in leaf or "/attn_vec_einsum" in leaf:
        return (permuted[0], permuted[1] * permuted[2])
    return permuted


def _kind(keys: Iterable[str]) -> ModelKind:
    keys = set(keys)
    if _is_adaptive(keys):
        return "pi05"
    return "pi0" if any(key.startswith(f"{_EXPERT}.") for key in keys) else "pi0_fast"


def _is_adaptive(keys: Iterable[str]) -> bool:
    return f"{_EXPERT}.norm.dense.weight" in keys


def _depth(keys: Iterable[str], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return 1 + max((int(m[1]) for m in map(pattern.match, keys) if m), default=-1)

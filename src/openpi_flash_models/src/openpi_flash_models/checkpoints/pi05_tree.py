"""The tensors of a pi0.5 checkpoint: their names, and their shapes at any size.

The sizes are those of a few tensors; every other tensor must then agree with them. A checkpoint
that lacks a tensor, has one more or one of another shape is refused by name: nothing is ever
filled in at random, and nothing is left out in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openpi_flash_models.checkpoints.orbax import LeafPath
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.inputs import IMAGE_SIZE

_IMG = "params/PaliGemma/img"
_LLM = "params/PaliGemma/llm"
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Pi05Sizes:
    """Every free size of a pi0.5 model.

    ``vision_*`` is SigLIP, ``width`` and ``mlp`` are the language expert's, ``expert_*`` the action
    expert's; depth, heads and head width are common to both.
    """

    patch: int
    vision_width: int
    vision_depth: int
    vision_heads: int
    vision_mlp: int
    width: int
    depth: int
    mlp: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    expert_width: int
    expert_mlp: int
    action_dim: int


def check_tree(leaves: Mapping[LeafPath, Any], source: str) -> Pi05Sizes:
    """Prove that ``leaves`` are a pi0.5 model, and say of what sizes.

    Args:
        leaves: anything with a ``shape``, by path; the first component is ``params``.
        source: what to call the checkpoint in an error.

    Raises:
        CheckpointError: names the tensors at fault.
    """
    shapes = {"/".join(path): tuple(leaf.shape) for path, leaf in leaves.items()}
    _refuse_other_models(shapes, source)
    sizes = _read_sizes(shapes, source)
    expected = expected_shapes(sizes)
    missing = sorted(expected.keys() - shapes.keys())
    if missing:
        raise CheckpointError(f"{source}: missing {_names(missing)}")
    unexpected = sorted(shapes.keys() - expected.keys())
    if unexpected:
        raise CheckpointError(f"{source}: unexpected {_names(unexpected)}")
    wrong = [
        f"{name} (shape {shapes[name]}, expected {shape})"
        for name, shape in expected.items()
        if shapes[name] != shape
    ]
    if wrong:
        raise CheckpointError(f"{source}: mis-shaped {_names(wrong)}")
    return sizes


def expected_shapes(s: Pi05Sizes) -> dict[str, tuple[int, ...]]:
    """Name (joined by slashes) and shape of every tensor of a model of these sizes."""
    head = s.vision_width // s.vision_heads
    block, attention = f"{_IMG}/Transformer/encoderblock", "MultiHeadDotProductAttention_0"
    shapes: dict[str, tuple[int, ...]] = {
        f"{_IMG}/embedding/kernel": (s.patch, s.patch, 3, s.vision_width),
        f"{_IMG}/embedding/bias": (s.vision_width,),
        f"{_IMG}/pos_embedding": (1, (IMAGE_SIZE // s.patch) ** 2, s.vision_width),
        f"{block}/{attention}/out/kernel": (s.vision_depth, s.vision_heads, head, s.vision_width),
        f"{block}/{attention}/out/bias": (s.vision_depth, s.vision_width),
        f"{block}/MlpBlock_0/Dense_0/kernel": (s.vision_depth, s.vision_width, s.vision_mlp),
        f"{block}/MlpBlock_0/Dense_0/bias": (s.vision_depth, s.vision_mlp),
        f"{block}/MlpBlock_0/Dense_1/kernel": (s.vision_depth, s.vision_mlp, s.vision_width),
        f"{block}/MlpBlock_0/Dense_1/bias": (s.vision_depth, s.vision_width),
        f"{_IMG}/Transformer/encoder_norm/scale": (s.vision_width,),
        f"{_IMG}/Transformer/encoder_norm/bias": (s.vision_width,),
        f"{_IMG}/head/kernel": (s.vision_width, s.width),
        f"{_IMG}/head/bias": (s.width,),
    }
    for norm in ("LayerNorm_0", "LayerNorm_1"):
        shapes[f"{block}/{norm}/scale"] = (s.vision_depth, s.vision_width)
        shapes[f"{block}/{norm}/bias"] = (s.vision_depth, s.vision_width)
    for name in ("query", "key", "value"):
        kernel = (s.vision_depth, s.vision_width, s.vision_heads, head)
        shapes[f"{block}/{attention}/{name}/kernel"] = kernel
        shapes[f"{block}/{attention}/{name}/bias"] = (s.vision_depth, s.vision_heads, head)

    shapes[f"{_LLM}/embedder/input_embedding"] = (s.vocabulary, s.width)
    for suffix, width, mlp in (("", s.width, s.mlp), ("_1", s.expert_width, s.expert_mlp)):
        layers, n, h, k = f"{_LLM}/layers", s.heads, s.head_width, s.key_heads
        shapes[f"{layers}/attn/q_einsum{suffix}/w"] = (s.depth, n, width, h)
        shapes[f"{layers}/attn/kv_einsum{suffix}/w"] = (s.depth, 2, k, width, h)
        shapes[f"{layers}/attn/attn_vec_einsum{suffix}/w"] = (s.depth, n, h, width)
        shapes[f"{layers}/mlp{suffix}/gating_einsum"] = (s.depth, 2, width, mlp)
        shapes[f"{layers}/mlp{suffix}/linear"] = (s.depth, mlp, width)
    for norm in ("pre_attention_norm", "pre_ffw_norm"):
        shapes[f"{_LLM}/layers/{norm}/scale"] = (s.depth, s.width)
        dense = f"{_LLM}/layers/{norm}_1/Dense_0"
        shapes[f"{dense}/kernel"] = (s.depth, s.expert_width, 3 * s.expert_width)
        shapes[f"{dense}/bias"] = (s.depth, 3 * s.expert_width)
    shapes[f"{_LLM}/final_norm/scale"] = (s.width,)
    shapes[f"{_LLM}/final_norm_1/Dense_0/kernel"] = (s.expert_width, 3 * s.expert_width)
    shapes[f"{_LLM}/final_norm_1/Dense_0/bias"] = (3 * s.expert_width,)

    for name, fan_in, fan_out in (
        ("action_in_proj", s.action_dim, s.expert_width),
        ("action_out_proj", s.expert_width, s.action_dim),
        ("time_mlp_in", s.expert_width, s.expert_width),
        ("time_mlp_out", s.expert_width, s.expert_width),
    ):
        shapes[f"params/{name}/kernel"] = (fan_in, fan_out)
        shapes[f"params/{name}/bias"] = (fan_out,)
    return shapes


def _refuse_other_models(shapes: Mapping[str, Any], source: str) -> None:
    if any("lora_" in name for name in shapes):
        raise CheckpointError(
            f"{source}: holds LoRA tensors, which have to be merged into the weights first"
        )
    if "params/state_proj/kernel" in shapes:
        raise CheckpointError(f"{source}: is a pi0 model (it has state_proj), not pi0.5")
    if f"{_LLM}/layers/attn/q_einsum/w" in shapes and not any("_1/" in name for name in shapes):
        raise CheckpointError(f"{source}: is a pi0-FAST model (no action expert), not pi0.5")


def _read_sizes(shapes: Mapping[str, tuple[int, ...]], source: str) -> Pi05Sizes:
    block = f"{_IMG}/Transformer/encoderblock"

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in shapes:
            raise CheckpointError(f"{source}: missing {_names([name])}")
        if len(shapes[name]) != rank:
            raise CheckpointError(
                f"{source}: mis-shaped {_names([name])} "
                f"(shape {shapes[name]}, expected {rank} axes)"
            )
        return shapes[name]

    patch, _, _, vision_width = shape(f"{_IMG}/embedding/kernel", 4)
    vision_depth, _, vision_heads, _ = shape(
        f"{block}/MultiHeadDotProductAttention_0/query/kernel", 4
    )
    depth, heads, width, head_width = shape(f"{_LLM}/layers/attn/q_einsum/w", 4)
    action_dim, expert_width = shape("params/action_in_proj/kernel", 2)
    return Pi05Sizes(
        patch=patch,
        vision_width=vision_width,
        vision_depth=vision_depth,
        vision_heads=vision_heads,
        vision_mlp=shape(f"{block}/MlpBlock_0/Dense_0/kernel", 3)[2],
        width=width,
        depth=depth,
        mlp=shape(f"{_LLM}/layers/mlp/linear", 3)[1],
        heads=heads,
        key_heads=shape(f"{_LLM}/layers/attn/kv_einsum/w", 5)[2],
        head_width=head_width,
        vocabulary=shape(f"{_LLM}/embedder/input_embedding", 2)[0],
        expert_width=expert_width,
        expert_mlp=shape(f"{_LLM}/layers/mlp_1/linear", 3)[1],
        action_dim=action_dim,
    )


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED_AT_MOST])
    more = len(names) - _NAMED_AT_MOST
    return f"tensor{'s' if len(names) > 1 else ''} {shown}" + (
        f" and {more} more" if more > 0 else ""
    )

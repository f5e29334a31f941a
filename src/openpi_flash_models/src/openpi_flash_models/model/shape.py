"""The tensors of a pi0, pi0-FAST or pi0.5 model: their names, and their shapes at any size.

A few tensors tell a model's kind and sizes; every other tensor must then agree with them. A
missing, an extra or a mis-shaped tensor is an error that names it: nothing is filled in at random,
and nothing is dropped silently.

Names are the paths of openpi's JAX checkpoints, joined by slashes. Needs no model framework.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from openpi_flash_models.errors import CheckpointError, InferenceConfigError
from openpi_flash_models.model.inputs import IMAGE_SIZE

ModelKind = Literal["pi0", "pi05", "pi0_fast"]
MODEL_NAMES: dict[ModelKind, str] = {"pi0": "pi0", "pi05": "pi0.5", "pi0_fast": "pi0-FAST"}

_IMG = "params/PaliGemma/img"
_LLM = "params/PaliGemma/llm"
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class ModelShape:
    """The kind of a model, and all its sizes.

    ``vision_*`` is SigLIP, ``width`` and ``mlp`` are the language expert's, ``expert_*`` the action
    expert's; depth, heads and head width are common to both. pi0-FAST has no action expert: its
    ``expert_*`` and ``action_dim`` are 0.
    """

    kind: ModelKind
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
    expert_width: int = 0
    expert_mlp: int = 0
    action_dim: int = 0
    image_size: int = IMAGE_SIZE
    """Side of an image in pixels, a multiple of ``patch``."""

    @property
    def image_tokens(self) -> int:
        """Tokens per image."""
        return (self.image_size // self.patch) ** 2


@dataclass(frozen=True)
class TowerSizes:
    """One named size of a language or action expert."""

    width: int
    depth: int
    mlp: int
    heads: int
    key_heads: int
    head_width: int


# openpi's names. "dummy" is for tests; LoRA variants have the sizes of what they adapt.
TOWERS = {
    "dummy": TowerSizes(width=64, depth=4, mlp=128, heads=8, key_heads=1, head_width=16),
    "gemma_300m": TowerSizes(width=1024, depth=18, mlp=4096, heads=8, key_heads=1, head_width=256),
    "gemma_2b": TowerSizes(width=2048, depth=18, mlp=16384, heads=8, key_heads=1, head_width=256),
}
TOWERS |= {f"{name}_lora": TOWERS[name] for name in ("gemma_300m", "gemma_2b")}
PALIGEMMA_VOCABULARY = 257_152


def named_shape(
    kind: ModelKind,
    *,
    language: str = "gemma_2b",
    expert: str = "gemma_300m",
    action_dim: int = 32,
    vocabulary: int = PALIGEMMA_VOCABULARY,
) -> ModelShape:
    """The shape of a new model, by openpi's names of sizes. The vision tower is So400m/14.

    Args:
        kind: which model.
        language: one of ``TOWERS``.
        expert: one of ``TOWERS`` (pi0-FAST has none).
        action_dim: width of the model's actions.
        vocabulary: rows of the embedding.

    Raises:
        InferenceConfigError: no such size, or two that do not fit together.
    """
    for name in (language, expert):
        if name not in TOWERS:
            raise InferenceConfigError(
                f"no model size named {name!r}, known: {', '.join(sorted(TOWERS))}"
            )
    words, actions = TOWERS[language], TOWERS[expert]
    has_expert = kind != "pi0_fast"
    shared = ("depth", "heads", "key_heads", "head_width")
    if has_expert and any(getattr(words, name) != getattr(actions, name) for name in shared):
        raise InferenceConfigError(
            f"{language} and {expert} cannot attend to each other: depth or heads"
        )
    return ModelShape(
        kind=kind,
        patch=14,
        vision_width=1152,
        vision_depth=27,
        vision_heads=16,
        vision_mlp=4304,
        width=words.width,
        depth=words.depth,
        mlp=words.mlp,
        heads=words.heads,
        key_heads=words.key_heads,
        head_width=words.head_width,
        vocabulary=vocabulary,
        expert_width=actions.width if has_expert else 0,
        expert_mlp=actions.mlp if has_expert else 0,
        action_dim=action_dim if has_expert else 0,
    )


def check_tree(leaves: Mapping[tuple[str, ...], Any], source: str) -> ModelShape:
    """Check that ``leaves`` are a complete model; returns its kind and sizes.

    Args:
        leaves: anything with a ``shape``, by path; the first component is ``params``.
        source: what to call the checkpoint in an error.

    Raises:
        CheckpointError: names the tensors at fault.
    """
    shapes = {"/".join(path): tuple(leaf.shape) for path, leaf in leaves.items()}
    if any("lora_" in name for name in shapes):
        raise CheckpointError(
            f"{source}: holds LoRA tensors, which have to be merged into the weights first"
        )
    shape = read_shape(shapes, source)
    refuse_differences(expected_shapes(shape), shapes, source)
    return shape


def refuse_differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Compare names, then shapes.

    Raises:
        CheckpointError: names what is missing, unexpected or mis-shaped.
    """
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise CheckpointError(f"{source}: missing {_names(missing)}")
    unexpected = sorted(found.keys() - expected.keys())
    if unexpected:
        raise CheckpointError(f"{source}: unexpected {_names(unexpected)}")
    wrong = [
        f"{name} (shape {found[name]}, expected {wanted})"
        for name, wanted in expected.items()
        if found[name] != wanted
    ]
    if wrong:
        raise CheckpointError(f"{source}: mis-shaped {_names(wrong)}")


def kind_of(names: Collection[str]) -> ModelKind:
    """The kind of model with tensors of these names, even if some are missing."""
    expert = (name for name in names if name.startswith((f"{_LLM}/", "params/action_")))
    if not any("_1/" in name or name.startswith("params/action_") for name in expert):
        return "pi0_fast"
    only_in_pi0 = ("params/state_proj/", "params/action_time_mlp_")
    return "pi0" if any(name.startswith(only_in_pi0) for name in names) else "pi05"


def read_shape(shapes: Mapping[str, tuple[int, ...]], source: str) -> ModelShape:
    """Kind and sizes, from the tensors that tell them; the others are not checked.

    Args:
        shapes: shape of every tensor by its name.
        source: what to call the checkpoint in an error.

    Raises:
        CheckpointError: one of those tensors is missing or has another number of axes.
    """
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

    kind = kind_of(shapes)
    patch, _, _, vision_width = shape(f"{_IMG}/embedding/kernel", 4)
    positions = shape(f"{_IMG}/pos_embedding", 3)[1]
    patches = math.isqrt(positions)
    if patches**2 != positions:
        raise CheckpointError(
            f"{source}: mis-shaped tensor {_IMG}/pos_embedding ({positions} positions, expected "
            "a square of as many rows as columns of patches)"
        )
    vision_depth, _, vision_heads, _ = shape(
        f"{block}/MultiHeadDotProductAttention_0/query/kernel", 4
    )
    depth, heads, width, head_width = shape(f"{_LLM}/layers/attn/q_einsum/w", 4)
    action_dim, expert_width, expert_mlp = 0, 0, 0
    if kind != "pi0_fast":
        action_dim, expert_width = shape("params/action_in_proj/kernel", 2)
        expert_mlp = shape(f"{_LLM}/layers/mlp_1/linear", 3)[1]
    return ModelShape(
        kind=kind,
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
        expert_mlp=expert_mlp,
        action_dim=action_dim,
        image_size=patches * patch,
    )


def expected_shapes(s: ModelShape) -> dict[str, tuple[int, ...]]:
    """Name (joined by slashes) and shape of every tensor of a model of these sizes."""
    shapes = _vision_shapes(s)
    shapes[f"{_LLM}/embedder/input_embedding"] = (s.vocabulary, s.width)
    shapes |= _tower_shapes(s, "", s.width, s.mlp)
    shapes |= _plain_norms(s, "", s.width)
    if s.kind == "pi0_fast":
        return shapes
    shapes |= _tower_shapes(s, "_1", s.expert_width, s.expert_mlp)
    linear = {
        "action_in_proj": (s.action_dim, s.expert_width),
        "action_out_proj": (s.expert_width, s.action_dim),
    }
    square = (s.expert_width, s.expert_width)
    if s.kind == "pi0":
        shapes |= _plain_norms(s, "_1", s.expert_width)
        linear["state_proj"] = (s.action_dim, s.expert_width)
        linear["action_time_mlp_in"] = (2 * s.expert_width, s.expert_width)
        linear["action_time_mlp_out"] = square
    else:
        shapes |= _adaptive_norms(s)
        linear |= {"time_mlp_in": square, "time_mlp_out": square}
    for name, (fan_in, fan_out) in linear.items():
        shapes[f"params/{name}/kernel"] = (fan_in, fan_out)
        shapes[f"params/{name}/bias"] = (fan_out,)
    return shapes


def _vision_shapes(s: ModelShape) -> dict[str, tuple[int, ...]]:
    head = s.vision_width // s.vision_heads
    block, attention = f"{_IMG}/Transformer/encoderblock", "MultiHeadDotProductAttention_0"
    shapes: dict[str, tuple[int, ...]] = {
        f"{_IMG}/embedding/kernel": (s.patch, s.patch, 3, s.vision_width),
        f"{_IMG}/embedding/bias": (s.vision_width,),
        f"{_IMG}/pos_embedding": (1, s.image_tokens, s.vision_width),
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
    return shapes


def _tower_shapes(s: ModelShape, suffix: str, width: int, mlp: int) -> dict[str, tuple[int, ...]]:
    layers, n, h, k = f"{_LLM}/layers", s.heads, s.head_width, s.key_heads
    return {
        f"{layers}/attn/q_einsum{suffix}/w": (s.depth, n, width, h),
        f"{layers}/attn/kv_einsum{suffix}/w": (s.depth, 2, k, width, h),
        f"{layers}/attn/attn_vec_einsum{suffix}/w": (s.depth, n, h, width),
        f"{layers}/mlp{suffix}/gating_einsum": (s.depth, 2, width, mlp),
        f"{layers}/mlp{suffix}/linear": (s.depth, mlp, width),
    }


def _plain_norms(s: ModelShape, suffix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{_LLM}/layers/pre_attention_norm{suffix}/scale": (s.depth, width),
        f"{_LLM}/layers/pre_ffw_norm{suffix}/scale": (s.depth, width),
        f"{_LLM}/final_norm{suffix}/scale": (width,),
    }


def _adaptive_norms(s: ModelShape) -> dict[str, tuple[int, ...]]:
    width = s.expert_width
    shapes: dict[str, tuple[int, ...]] = {}
    for norm in ("pre_attention_norm", "pre_ffw_norm"):
        dense = f"{_LLM}/layers/{norm}_1/Dense_0"
        shapes[f"{dense}/kernel"] = (s.depth, width, 3 * width)
        shapes[f"{dense}/bias"] = (s.depth, 3 * width)
    return shapes | {
        f"{_LLM}/final_norm_1/Dense_0/kernel": (width, 3 * width),
        f"{_LLM}/final_norm_1/Dense_0/bias": (3 * width,),
    }


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED_AT_MOST])
    more = len(names) - _NAMED_AT_MOST
    return f"tensor{'s' if len(names) > 1 else ''} {shown}" + (
        f" and {more} more" if more > 0 else ""
    )

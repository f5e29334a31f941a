"""Named sizes of models that are trained from random weights."""

from __future__ import annotations

import dataclasses
import difflib

from openpi_flash_models.model.shape import ModelKind, ModelShape, named_shape
from openpi_flash_training.train.problem import SettingsError

_TINY = ModelShape(
    kind="pi05",
    patch=56,
    vision_width=16,
    vision_depth=1,
    vision_heads=2,
    vision_mlp=16,
    width=16,
    depth=2,
    mlp=32,
    heads=4,
    key_heads=1,
    head_width=8,
    vocabulary=64,
    expert_width=16,
    expert_mlp=16,
)
_SMALL = dataclasses.replace(
    _TINY,
    image_size=112,
    patch=28,
    vision_width=96,
    vision_depth=3,
    vision_heads=4,
    vision_mlp=384,
    width=96,
    depth=3,
    mlp=384,
    heads=4,
    head_width=32,
    expert_width=64,
    expert_mlp=256,
)
SIZES = {"tiny": _TINY, "small": _SMALL, "full": named_shape("pi05")}
"""``full`` is openpi's (Gemma 2B and 300M, So400m); ``small`` has 1.4 million parameters with the
demo's words, and images of 112 x 112, for a simulated task on a CPU; ``tiny`` is for tests."""


def new_shape(size: str, kind: ModelKind, *, action_dim: int, vocabulary: int) -> ModelShape:
    """The shape of a new model.

    Args:
        size: one of ``SIZES``.
        kind: which model.
        action_dim: width of its actions; pi0-FAST has none.
        vocabulary: pieces of its tokenizer.

    Raises:
        SettingsError: there is no such size.
    """
    if size not in SIZES:
        close = difflib.get_close_matches(size, SIZES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(SIZES)}"
        raise SettingsError(f"model.size: there is no {size!r}, {hint}")
    found = dataclasses.replace(SIZES[size], kind=kind, vocabulary=vocabulary)
    if kind == "pi0_fast":
        return dataclasses.replace(found, expert_width=0, expert_mlp=0, action_dim=0)
    return dataclasses.replace(found, action_dim=action_dim)

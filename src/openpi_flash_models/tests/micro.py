"""The smallest model there is: it compiles in a moment, and every output depends on all of it."""

import dataclasses

import numpy as np

from openpi_flash_models.model.shape import ModelShape, expected_shapes

MICRO = ModelShape(
    kind="pi05",
    patch=56,  # 16 tokens a picture
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
    expert_width=8,
    expert_mlp=16,
    action_dim=4,
)


def micro_shape(kind, **sizes):
    """Its sizes as another kind of model, with some of them changed."""
    none = {"expert_width": 0, "expert_mlp": 0, "action_dim": 0} if kind == "pi0_fast" else {}
    return dataclasses.replace(MICRO, kind=kind, **none, **sizes)


def random_leaves(shape, seed=0, spread=0.3):
    """Weights of a shape, by path."""
    generator = np.random.default_rng(seed)
    return {
        tuple(name.split("/")): generator.normal(0, spread, size).astype(np.float32)
        for name, size in expected_shapes(shape).items()
    }

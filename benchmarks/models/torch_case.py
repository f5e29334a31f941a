"""What our PyTorch models and a peer's are both given: weights, an observation, noise."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openpi_flash_models.checkpoints.safetensors import write_safetensors
from openpi_flash_models.model.shape import ModelKind, ModelShape, expected_shapes

if TYPE_CHECKING:
    from torch import Tensor

HORIZON, STEPS = 50, 10
# Slots of a prompt as openpi's configs have them, and words in it; pi0.5's prompt holds the state.
PROMPTS: Mapping[ModelKind, tuple[int, int]] = {"pi0": (48, 20), "pi05": (200, 60)}

_DISPATCH_BOUND = ModelShape(
    kind="pi0",
    patch=56,
    vision_width=32,
    vision_depth=2,
    vision_heads=2,
    vision_mlp=64,
    width=32,
    depth=18,
    mlp=64,
    heads=8,
    key_heads=1,
    head_width=8,
    vocabulary=1024,
    expert_width=32,
    expert_mlp=64,
    action_dim=32,
)
_COMPUTE_BOUND = ModelShape(
    kind="pi0",
    patch=14,
    vision_width=288,
    vision_depth=6,
    vision_heads=4,
    vision_mlp=1152,
    width=512,
    depth=6,
    mlp=4096,
    heads=8,
    key_heads=1,
    head_width=64,
    vocabulary=1024,
    expert_width=256,
    expert_mlp=1024,
    action_dim=32,
)
SIZES = {
    # so small that starting an operation costs more than doing it
    "dispatch-bound": _DISPATCH_BOUND,
    "compute-bound": _COMPUTE_BOUND,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What both models get.

    Attributes:
        shape: of the model.
        leaves: its weights.
        images: [1, 3, 224, 224, 3] float32 in [-1, 1].
        present: [3], the cameras that the robot has.
        words: [W] token ids.
        slots: of the prompt, W of which are taken.
        state: [1, A].
        noise: [1, HORIZON, A].
    """

    shape: ModelShape
    leaves: dict[tuple[str, ...], np.ndarray]
    images: np.ndarray
    present: np.ndarray
    words: np.ndarray
    slots: int
    state: np.ndarray
    noise: np.ndarray

    def tensors(self) -> dict[str, Tensor]:
        """The weights under the names of openpi's ``model.safetensors``."""
        from safetensors.torch import load_file

        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "model.safetensors"
            write_safetensors(file, self.leaves)
            return load_file(file)


def make_case(kind: ModelKind, size: str, *, full: bool = False) -> Case:
    """Random weights and one observation, the same in every run.

    Args:
        kind: pi0 or pi05.
        size: one of ``SIZES``.
        full: every camera is there and every slot of the prompt taken, so that nothing can be left
            out.
    """
    shape = dataclasses.replace(SIZES[size], kind=kind)
    generator = np.random.default_rng(0)
    leaves = {
        tuple(path.split("/")): _weights(path, each, generator)
        for path, each in expected_shapes(shape).items()
    }
    slots, words = PROMPTS[kind]
    return Case(
        shape=shape,
        leaves=leaves,
        images=generator.uniform(-1, 1, (1, 3, 224, 224, 3)).astype(np.float32),
        present=np.array([True, True, full]),
        words=generator.integers(2, shape.vocabulary, slots if full else words),
        slots=slots,
        state=generator.standard_normal((1, shape.action_dim), dtype=np.float32),
        noise=generator.standard_normal((1, HORIZON, shape.action_dim), dtype=np.float32),
    )


def _weights(path: str, size: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    fan_in = size[-2] if len(size) > 1 else 1
    spread = 0.05 if path.endswith(("bias", "scale")) else fan_in**-0.5
    return (generator.standard_normal(size) * spread).astype(np.float32)

"""A random SigLIP whose tokens depend on what is in the picture."""

from __future__ import annotations

import numpy as np

from openpi_flash_models.model.shape import ModelShape

_BLOCK = "params/PaliGemma/img/Transformer/encoderblock"


def fill(weights: dict[str, np.ndarray], sizes: ModelShape, rng: np.random.Generator) -> None:
    """Fill in the tower up to its last norm; the head is for the caller.

    Args:
        weights: every tensor by name; changed in place.
        sizes: of the model.
        rng: draws the weights.
    """

    def normal(name: str, scale: float) -> None:
        weights[name] += scale * rng.standard_normal(weights[name].shape)

    width = sizes.vision_width
    # A picture's level and colours weigh as much as its texture: a patch's mean is kept on purpose.
    normal("params/PaliGemma/img/embedding/kernel", 0.3 / (3 * sizes.patch**2) ** 0.5)
    kernel = weights["params/PaliGemma/img/embedding/kernel"]
    kernel += 2.0 / sizes.patch**2 * rng.standard_normal((1, 1, 3, width))
    normal("params/PaliGemma/img/embedding/bias", 0.1)
    normal("params/PaliGemma/img/pos_embedding", 0.3)
    for norm in (f"{_BLOCK}/LayerNorm_0", f"{_BLOCK}/LayerNorm_1"):
        weights[f"{norm}/scale"] += 1.0
    weights["params/PaliGemma/img/Transformer/encoder_norm/scale"] += 1.0
    for name in ("query", "key", "value", "out"):
        normal(f"{_BLOCK}/MultiHeadDotProductAttention_0/{name}/kernel", width**-0.5)
    normal(f"{_BLOCK}/MlpBlock_0/Dense_0/kernel", width**-0.5)
    normal(f"{_BLOCK}/MlpBlock_0/Dense_1/kernel", sizes.vision_mlp**-0.5)

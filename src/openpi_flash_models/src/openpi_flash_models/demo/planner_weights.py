"""Random weights of a planner that generates whole words.

A random model with a tied head repeats its last token, because a token's embedding resembles
itself most. So an embedding has two halves here: the first says which token it is, the second is
what the head compares with. The last norm removes the first half, and the second half is small
beside what the layers write into it: the next word is a random function of the words before it, of
the pictures and of the task. Only whole words and EOS have a large second half.
"""

from __future__ import annotations

import numpy as np

from openpi_flash_models.demo import vision_weights
from openpi_flash_models.demo.action_weights import SIZES, Weights
from openpi_flash_models.demo.tokenizer import EOS_ID, WORD_START, WORDS, pieces
from openpi_flash_models.model.shape import expected_shapes

_LLM = "params/PaliGemma/llm"
_HALF = SIZES.width // 2
_WORD, _END, _SILENT = 0.20, 0.45, 0.02


def planner_weights(seed: int = 7) -> Weights:
    """Every tensor by name (joined by slashes), float32."""
    rng = np.random.default_rng(seed)
    w = {name: 0.02 * rng.standard_normal(shape) for name, shape in expected_shapes(SIZES).items()}
    vision_weights.fill(w, SIZES, rng)
    w["params/PaliGemma/img/head/kernel"] += (
        rng.standard_normal((SIZES.vision_width, SIZES.width)) / SIZES.vision_width**0.5
    )
    table = w[f"{_LLM}/embedder/input_embedding"]
    for index, (row, piece) in enumerate(zip(table, pieces(), strict=True)):
        weight = _SILENT
        if piece.startswith(WORD_START) and piece[1:] in WORDS and len(piece) > 2:
            weight = _WORD
        elif index == EOS_ID:
            weight = _END
        row[:_HALF] = _unit(rng.standard_normal(_HALF))
        row[_HALF:] = weight * _unit(rng.standard_normal(_HALF))

    layers, head_width, width = f"{_LLM}/layers", SIZES.head_width, SIZES.width
    w[f"{layers}/attn/q_einsum/w"] += _normal(rng, w, "attn/q_einsum/w") * width**-0.5 * 2
    w[f"{layers}/attn/kv_einsum/w"] += _normal(rng, w, "attn/kv_einsum/w") * width**-0.5
    out = _normal(rng, w, "attn/attn_vec_einsum/w") * (SIZES.heads * head_width) ** -0.5
    w[f"{layers}/attn/attn_vec_einsum/w"] += 6.0 * out
    w[f"{layers}/mlp/gating_einsum"] += _normal(rng, w, "mlp/gating_einsum") * width**-0.5 * 1.5
    w[f"{layers}/mlp/linear"] += _normal(rng, w, "mlp/linear") * SIZES.mlp**-0.5 * 2
    w[f"{_LLM}/final_norm/scale"][:_HALF] -= 1.0
    return {name: values.astype(np.float32) for name, values in w.items()}


def _normal(rng: np.random.Generator, w: Weights, name: str) -> np.ndarray:
    return rng.standard_normal(w[f"{_LLM}/layers/{name}"].shape)


def _unit(x: np.ndarray) -> np.ndarray:
    unit: np.ndarray = x / np.linalg.norm(x)
    return unit

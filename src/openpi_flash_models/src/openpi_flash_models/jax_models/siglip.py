"""SigLIP vision tower: pictures to tokens of the language model's width.

Shapes: N pictures, P patches (16 x 16), W tower width, A heads, H head width, D language width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

LAYER_NORM_EPSILON = 1e-6


def encode_images(params: Mapping[str, Any], images: jax.Array) -> jax.Array:
    """Encode pictures.

    Args:
        params: ``PaliGemma/img`` of a checkpoint.
        images: [N, 224, 224, 3] float32 in [-1, 1].

    Returns:
        [N, P, D] in the dtype of the parameters.
    """
    dtype = params["head"]["kernel"].dtype
    x = _patches(images, params["embedding"])  # [N, P, W] float32
    x = (x + params["pos_embedding"].astype(jnp.float32)).astype(dtype)

    def block(x: jax.Array, layer: Mapping[str, Any]) -> tuple[jax.Array, None]:
        h = layer_norm(x, layer["LayerNorm_0"])
        x = x + _self_attention(h, layer["MultiHeadDotProductAttention_0"])
        h = layer_norm(x, layer["LayerNorm_1"])
        return x + _mlp(h, layer["MlpBlock_0"]), None

    x, _ = jax.lax.scan(block, x, params["Transformer"]["encoderblock"])
    x = layer_norm(x, params["Transformer"]["encoder_norm"])
    return _linear(params["head"], x)


def layer_norm(x: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    """Normalise the last axis; statistics in float32, result in the dtype of ``x``."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.maximum(jnp.square(wide).mean(-1, keepdims=True) - jnp.square(mean), 0.0)
    normed: jax.Array = (wide - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return (normed * params["scale"] + params["bias"]).astype(x.dtype)


def _patches(images: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    """The patch convolution (stride = kernel size) as one float32 matrix product."""
    kernel = params["kernel"].astype(jnp.float32)  # [p, p, 3, W]
    side, _, channels, width = kernel.shape
    n, height, breadth, _ = images.shape
    rows, columns = height // side, breadth // side
    x = images.reshape(n, rows, side, columns, side, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, rows * columns, side * side * channels)
    return _linear({"kernel": kernel.reshape(-1, width), "bias": params["bias"]}, x)


def _self_attention(x: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    query, key, value = (
        jnp.einsum("npw,wah->npah", x, params[name]["kernel"]) + params[name]["bias"]
        for name in ("query", "key", "value")
    )
    # The root is rounded to the compute dtype (8.5 for 72 in bfloat16), as in training.
    query = query / jnp.sqrt(jnp.asarray(query.shape[-1], jnp.float32)).astype(x.dtype)
    weights = jax.nn.softmax(jnp.einsum("npah,nqah->napq", query, key), axis=-1)
    heads = jnp.einsum("napq,nqah->npah", weights, value)
    mixed: jax.Array = jnp.einsum("npah,ahw->npw", heads, params["out"]["kernel"])
    return mixed + params["out"]["bias"]


def _mlp(x: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    return _linear(params["Dense_1"], jax.nn.gelu(_linear(params["Dense_0"], x), approximate=True))


def _linear(params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    product: jax.Array = x @ params["kernel"]
    return product + params["bias"]

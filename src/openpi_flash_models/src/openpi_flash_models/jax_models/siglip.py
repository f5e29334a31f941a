"""SigLIP vision tower: images to tokens of the language model's width.

Sources: SigLIP (arXiv 2303.15343), and ``openpi/models/siglip.py`` with ``So400m/14``.

Shapes: N images, P patches, W tower width, A heads, H head width, D language width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models.arch import Arch, run_each_layer
from openpi_flash_models.jax_models.fused_attention import attend_images

LAYER_NORM_EPSILON = 1e-6

Params = Mapping[str, Any]


def encode_images(arch: Arch, vision: Params, images: jax.Array) -> jax.Array:
    """Encode images.

    Args:
        arch: sizes and switches.
        vision: of the weights.
        images: [N, side, side, 3] float32 in [-1, 1].

    Returns:
        [N, P, D] in the compute dtype.
    """
    dtype = arch.dtype or vision["head"]["kernel"].dtype
    x = _patches(images, vision["embedding"])  # [N, P, W] float32
    x = (x + vision["pos_embedding"].astype(jnp.float32)).astype(dtype)

    normed = partial(layer_norm, centred=arch.uses_kernels(x.dtype))

    def block(x: jax.Array, layer: Params, _: Sequence[Any]) -> tuple[jax.Array, None]:
        x = x + _self_attention(arch, normed(x, layer["norm_0"]), layer)
        return x + _mlp(normed(x, layer["norm_1"]), layer), None

    x, _ = run_each_layer(arch, block, x, vision["layers"], count=arch.shape.vision_depth)
    head = {name: leaf.astype(dtype) for name, leaf in vision["head"].items()}
    return _linear(head, normed(x, vision["final_norm"]))


def layer_norm(x: jax.Array, params: Params, *, centred: bool = False) -> jax.Array:
    """Normalise the last axis; statistics in float32, result in the dtype of ``x``.

    Args:
        x: [..., W].
        params: scale and bias.
        centred: sum squares about the mean, one sum after the other, of which XLA makes one
            kernel on a GPU; otherwise both at once, as openpi does.
    """
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    if centred:
        variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    else:
        variance = jnp.maximum(jnp.square(wide).mean(-1, keepdims=True) - jnp.square(mean), 0.0)
    normed: jax.Array = (wide - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return (normed * params["scale"] + params["bias"]).astype(x.dtype)


def _patches(images: jax.Array, params: Params) -> jax.Array:
    """The patch convolution (stride = kernel size) as one float32 matrix product."""
    kernel = params["kernel"].astype(jnp.float32)  # [p, p, 3, W]
    side, _, channels, width = kernel.shape
    n, height, breadth, _ = images.shape
    rows, columns = height // side, breadth // side
    x = images.reshape(n, rows, side, columns, side, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, rows * columns, side * side * channels)
    return _linear({"kernel": kernel.reshape(-1, width), "bias": params["bias"]}, x)


def _self_attention(arch: Arch, x: jax.Array, layer: Params) -> jax.Array:
    heads, head_width, _ = layer["out"]["kernel"].shape
    # The root is rounded to the compute dtype (8.5 for 72 in bfloat16), as in training.
    root = jnp.sqrt(jnp.asarray(head_width, jnp.float32)).astype(x.dtype)
    if "qkv" in layer:
        fused = _linear(layer["qkv"], x).reshape(*x.shape[:2], 3, heads, head_width)
        if arch.uses_kernels(x.dtype) and arch.layer is None:
            mixed = attend_images(fused, root, interpret=arch.kernels == "interpret")
            return _out(layer, mixed.reshape(*x.shape[:2], heads * head_width))
        query, key, value = fused[:, :, 0], fused[:, :, 1], fused[:, :, 2]
    else:
        query, key, value = (
            jnp.einsum("npw,wah->npah", x, layer[name]["kernel"]) + layer[name]["bias"]
            for name in ("query", "key", "value")
        )
    weights = jax.nn.softmax(jnp.einsum("npah,nqah->napq", query / root, key), axis=-1)
    mixed = jnp.einsum("napq,nqah->npah", weights, value).reshape(*x.shape[:2], heads * head_width)
    return _out(layer, mixed)


def _out(layer: Params, mixed: jax.Array) -> jax.Array:
    """The output projection of all heads' results [N, P, A * H]."""
    kernel = layer["out"]["kernel"]
    out: jax.Array = mixed @ kernel.reshape(mixed.shape[-1], kernel.shape[-1])
    return out + layer["out"]["bias"]


def _mlp(x: jax.Array, layer: Params) -> jax.Array:
    return _linear(layer["mlp_out"], jax.nn.gelu(_linear(layer["mlp_in"], x), approximate=True))


def _linear(params: Params, x: jax.Array) -> jax.Array:
    product: jax.Array = x @ params["kernel"]
    return product + params["bias"]

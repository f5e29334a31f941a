"""Runs the prefix, images and prompt, through the language expert.

    prefix = [camera 0][camera 1]...[prompt]     every valid token attends to every valid token

Source: ``embed_prefix`` in ``openpi/models/pi0.py``.

Shapes: B batch, C cameras, P tokens per camera, L prompt slots, S = C * P + L, D language width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models import gemma, siglip
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.model.inputs import ModelInputs

Params = Mapping[str, Any]

jax.tree_util.register_dataclass(
    ModelInputs,
    data_fields=["images", "image_mask", "tokens", "token_mask", "state"],
    meta_fields=[],
)


class Prefix(NamedTuple):
    """The results of the prefix pass.

    Attributes:
        cache: keys and values of the prefix for every layer.
        valid: [B, S] bool.
        length: [B] int, valid tokens = the position of the first token after the prefix.
    """

    cache: gemma.Cache
    valid: jax.Array
    length: jax.Array

    @property
    def past(self) -> gemma.Past:
        """The prefix as earlier tokens of a later pass."""
        return gemma.Past(self.cache, self.valid)


def embed_prefix(arch: Arch, weights: Params, inputs: ModelInputs) -> tuple[jax.Array, jax.Array]:
    """Tokens [B, S, D] of images and prompt, and which of them are valid [B, S]."""
    seen = embed_images(arch, weights, inputs.images)
    return join_tokens(weights, seen, inputs.image_mask, inputs.tokens, inputs.token_mask)


def embed_images(arch: Arch, weights: Params, images: jax.Array) -> jax.Array:
    """Tokens [B, C * P, D] of images [B, C, side, side, 3]: uint8, or float32 in [-1, 1]."""
    batch, cameras = images.shape[:2]
    pictures = scale_images(images)
    if arch.graph.batch_cameras:
        flat = pictures.reshape(batch * cameras, *pictures.shape[2:])
        seen = siglip.encode_images(arch, weights["vision"], flat)
        return seen.reshape(batch, -1, seen.shape[-1])
    each = [siglip.encode_images(arch, weights["vision"], pictures[:, i]) for i in range(cameras)]
    return jnp.concatenate(each, axis=1)


def join_tokens(
    weights: Params, seen: jax.Array, image_mask: jax.Array, ids: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The prefix of image tokens and a text.

    Args:
        weights: of the model.
        seen: [B, C * P, D], of ``embed_images``.
        image_mask: [B, C] bool.
        ids: [B, L] int32.
        mask: [B, L] bool.

    Returns:
        Tokens [B, S, D], and which of them are valid [B, S].
    """
    read = gemma.embed_tokens(weights["embedding"], ids).astype(seen.dtype)
    pictured = jnp.repeat(image_mask, seen.shape[1] // image_mask.shape[1], axis=1)
    return jnp.concatenate([seen, read], axis=1), jnp.concatenate([pictured, mask], axis=1)


def scale_images(images: jax.Array) -> jax.Array:
    """uint8 to float32 in [-1, 1]; float images are in that range already."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255.0 * 2.0 - 1.0
    return images.astype(jnp.float32)


def run_prefix(
    arch: Arch,
    weights: Params,
    tokens: jax.Array,
    valid: jax.Array,
    wanted: jax.Array | None,
    *,
    mask: jax.Array | None = None,
    positions: jax.Array | None = None,
) -> tuple[jax.Array, Prefix]:
    """Run expert 0 over the prefix.

    Args:
        arch: sizes and switches.
        weights: of the model.
        tokens: [B, S, D].
        valid: [B, S] bool.
        wanted: [B, Q] int, which tokens' outputs are read; actions need none of them. None: all.
        mask: [B, S, S] bool, true where a token may attend to another one, such as of
            ``block_mask``; None: every valid token attends to every valid token.
        positions: [B, S] int, for RoPE; None: masked tokens take no position.

    Returns:
        The normed output [B, Q or S, D] of the wanted tokens, and the prefix for the suffix.
    """
    if positions is None:
        positions = jnp.cumsum(valid, axis=1) - 1
    if mask is None:
        # what masked tokens attend to is left open: nothing reads their outputs
        mask = valid[:, None, :]
    hidden, cache = gemma.run_layers(
        arch, weights["language"], tokens, positions, mask, wanted=wanted
    )
    return hidden, Prefix(cache, valid, valid.sum(axis=1))


def block_mask(valid: jax.Array, causal: jax.Array) -> jax.Array:
    """[B, S, S] bool: which token may attend to which, where some tokens are causal.

    A causal token begins a block: tokens attend to their own block and to earlier ones. Source:
    ``make_attn_mask`` in ``openpi/models/pi0.py``.

    Args:
        valid: [B, S] bool.
        causal: [B, S] bool.
    """
    block = jnp.cumsum(causal, axis=1)
    return (block[:, None, :] <= block[:, :, None]) & valid[:, None, :] & valid[:, :, None]


def read_last(arch: Arch, weights: Params, inputs: ModelInputs) -> tuple[jax.Array, Prefix]:
    """Run the prefix; returns the hidden state [B, D] of its last valid token, and the prefix."""
    return read_embedded(arch, weights, *embed_prefix(arch, weights, inputs))


def read_embedded(
    arch: Arch, weights: Params, tokens: jax.Array, valid: jax.Array
) -> tuple[jax.Array, Prefix]:
    """As ``read_last``, for the tokens [B, S, D] of ``embed_prefix``."""
    last = valid.shape[1] - 1 - jnp.argmax(valid[:, ::-1], axis=1)
    hidden, prefix = run_prefix(arch, weights, tokens, valid, last[:, None])
    return hidden[:, 0], prefix

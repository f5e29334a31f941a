"""The parts of a forward pass that the losses share: weights, images, and a text behind them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.arrange import arrange
from openpi_flash_models.jax_models.prefix import (
    Prefix,
    block_mask,
    embed_images,
    join_tokens,
    run_prefix,
)
from openpi_flash_models.model.rearrangements import Graph, Layout
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_training.train.batch import Tokens
from openpi_flash_training.train.layer_weights import layer_weights
from openpi_flash_training.train.lora import LoraSettings, scale_adapters

Params = Mapping[str, Any]


class Model(NamedTuple):
    """A model as the losses use it.

    Attributes:
        arch: sizes and switches.
        weights: arranged.
    """

    arch: Arch
    weights: Params


class Seen(NamedTuple):
    """The images of a batch, after the vision tower.

    Attributes:
        tokens: [B, C * P, D].
        mask: [B, C] bool.
    """

    tokens: jax.Array
    mask: jax.Array


def build_model(
    params: Params,
    shape: ModelShape,
    *,
    dtype: str,
    lora: LoraSettings | None,
    remat: bool,
    unroll: bool,
) -> Model:
    """The model of some parameters; gradients pass.

    Args:
        params: openpi's nested tree, with adapters if any.
        shape: of the model.
        dtype: in which layers compute.
        lora: scaling of the adapters.
        remat: compute each layer again in the backward pass.
        unroll: layers one after the other in the program, instead of a loop.
    """
    scaled = params if lora is None else scale_adapters(params, lora)
    layout = Layout(fuse_projections=False, unroll_layers=unroll)
    # of stacked layers, all but the last would be a copy of their weights
    graph = Graph(keys_only_last_layer=unroll)
    hook = partial(layer_weights, dtype=dtype)
    weights = arrange(scaled, shape, layout, jnp)
    return Model(Arch(shape, graph, layer=hook, remat=remat, dtype=dtype), weights)


def see(model: Model, images: jax.Array, mask: jax.Array) -> Seen:
    """Run the vision tower over images [B, C, side, side, 3] float32 in [-1, 1]."""
    return Seen(embed_images(model.arch, model.weights, images), mask)


def read_text(
    model: Model,
    seen: Seen,
    text: Tokens,
    wanted: jax.Array | None,
    *,
    plain_positions: bool = False,
) -> tuple[jax.Array, Prefix]:
    """Run the language expert over images and a text.

    Args:
        model: which.
        seen: the images.
        text: behind the images.
        wanted: [B, Q] int, places in the text whose outputs are read (-1: none).
        plain_positions: count positions from 0 over masked tokens, too, as openpi's training of
            pi0-FAST does; otherwise masked tokens take none.

    Returns:
        The normed outputs [B, Q, D], and the prefix for the action expert.
    """
    arch, weights = model
    tokens, valid = join_tokens(weights, seen.tokens, seen.mask, text.ids, text.mask)
    before = seen.tokens.shape[1]
    mask = positions = None
    if text.causal is not None:
        images = jnp.zeros((len(valid), before), bool)
        mask = block_mask(valid, jnp.concatenate([images, text.causal.astype(bool)], axis=1))
    if plain_positions:
        positions = jnp.broadcast_to(jnp.arange(valid.shape[1]), valid.shape)
    at = jnp.zeros((len(valid), 0), jnp.int32) if wanted is None else wanted + before
    return run_prefix(arch, weights, tokens, valid, at, mask=mask, positions=positions)


def last_of(mask: jax.Array) -> jax.Array:
    """[B] int, the place of the last true of [B, L]."""
    return mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)

"""Extra losses with heads of their own, which are dropped after training.

A small model that starts from random weights does not learn to look from the flow loss alone.
Simulation gives the labels of these losses for free:

    detection   each object's patch is the softmax over an image's tokens, and the token says where
                in its patch the object is
    position    the last prompt token says where the object is that the prompt names

Labels of a batch, by name:

    points    camera -> [B, O, 2] float32: x to the right and y down as shares of the image's width
              and height; outside of [0, 1) or NaN where the object is not visible
    position  [B, K] float32: standardised coordinates of the named object; NaN where unknown

Points are changed along with the images by the augmentation.

Shapes: B batch, C cameras, O objects, K coordinates, P tokens per image, D language width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models.suffix import linear
from openpi_flash_models.model.shape import ModelShape

Params = Mapping[str, Any]

HEADS = "training_heads"
"""The key of the heads among the parameters; no model has a tensor of this name."""


@dataclass(frozen=True)
class ExtraLosses:
    """Which extra losses there are.

    Attributes:
        objects: O, objects whose places the image tokens learn; 0: no detection loss.
        coordinates: K, coordinates of the named object; 0: no position loss.
        detection_weight: of the detection loss.
        position_weight: of the position loss.
    """

    objects: int = 0
    coordinates: int = 0
    detection_weight: float = 1.0
    position_weight: float = 1.0

    @property
    def widths(self) -> dict[str, int]:
        """Outputs of each head."""
        widths = {"detection": 3 * self.objects, "position": self.coordinates}
        return {name: width for name, width in widths.items() if width}


def add_heads(
    params: Params, shape: ModelShape, extra: ExtraLosses, key: jax.Array
) -> dict[str, Any]:
    """The parameters with a new head for each extra loss; unchanged if there is none."""
    heads = {
        name: {
            "kernel": jax.nn.initializers.lecun_normal()(of_name, (shape.width, width)),
            "bias": jnp.zeros(width),
        }
        for of_name, (name, width) in zip(
            jax.random.split(key, 2), extra.widths.items(), strict=False
        )
    }
    return {**params, HEADS: heads} if heads else dict(params)


def without_heads(params: Params) -> dict[str, Any]:
    """The parameters of the model alone: what a checkpoint holds for serving."""
    return {name: tree for name, tree in params.items() if name != HEADS}


def detection_loss(
    head: Params, seen: jax.Array, points: jax.Array, image_mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Cross entropy of each visible object's patch, and the squared error of its place in it.

    Args:
        head: of the detection.
        seen: [B, C * P, D] image tokens.
        points: [B, C, O, 2].
        image_mask: [B, C] bool.

    Returns:
        The mean over rows of the mean over a row's visible objects, and the share of them whose
        patch is found.
    """
    batch, cameras, objects = points.shape[:3]
    out = linear(head, seen.astype(jnp.float32)).reshape(batch, cameras, -1, objects, 3)
    side = round(out.shape[2] ** 0.5)
    is_visible = ((points >= 0) & (points < 1)).all(-1) & image_mask[..., None]  # [B, C, O]
    places = jnp.where(is_visible[..., None], points, 0.0) * side
    columns, rows = jnp.moveaxis(jnp.floor(places).astype(jnp.int32), -1, 0)
    cells = rows * side + columns
    scores = jax.nn.log_softmax(out[..., 0], axis=2)  # [B, C, P, O]
    at_cell = jnp.take_along_axis(scores, cells[:, :, None], axis=2)[:, :, 0]
    offsets = jnp.take_along_axis(out[..., 1:], cells[:, :, None, :, None], axis=2)[:, :, 0]
    misplaced = jnp.square(offsets - (places - jnp.floor(places))).sum(-1)
    errors = jnp.where(is_visible, misplaced - at_cell, 0.0)
    count = jnp.maximum(is_visible.sum((1, 2)), 1)
    is_found = is_visible & (scores.argmax(2) == cells)
    return (errors.sum((1, 2)) / count).mean(), is_found.sum() / jnp.maximum(is_visible.sum(), 1)


def position_loss(head: Params, hidden: jax.Array, position: jax.Array) -> jax.Array:
    """Mean squared error of the coordinates that are known.

    Args:
        head: of the position.
        hidden: [B, D] output of the last prompt token.
        position: [B, K].
    """
    is_known = ~jnp.isnan(position)
    out = linear(head, hidden.astype(jnp.float32))
    errors = jnp.square(out - jnp.where(is_known, position, 0.0))
    known = jnp.maximum(is_known.sum(-1), 1)
    return (jnp.where(is_known, errors, 0.0).sum(-1) / known).mean()

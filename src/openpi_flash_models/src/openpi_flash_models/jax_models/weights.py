"""Puts a checkpoint's weights on the device, once, at load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.jax_models.arrange import arrange
from openpi_flash_models.jax_models.quantized import quantize_tree
from openpi_flash_models.model.precision import Quantization
from openpi_flash_models.model.rearrangements import Layout
from openpi_flash_models.model.shape import ModelShape, expected_shapes

Params = Mapping[str, Any]


def lay_out(
    tree: Params,
    shape: ModelShape,
    layout: Layout,
    *,
    with_actions: bool = True,
    quantization: Quantization | None = None,
) -> dict[str, Any]:
    """Put the weights of a model on the default device.

    Args:
        tree: the checkpoint's nested tree, without ``params``; numpy arrays (any JAX array works).
        shape: of the model.
        layout: what to fuse, and whether layers are apart.
        with_actions: whether to load the action expert; a planner needs none.
        quantization: eight-bit type of the layers' matrices and the embedding; None: the tree's.

    Raises:
        InferenceConfigError: weights to quantize need ``fuse_projections``.
    """
    if quantization is not None and not layout.fuse_projections:
        raise InferenceConfigError(
            f"dtype: {quantization} needs fuse_projections; remove the switch from graph"
        )
    weights = arrange(tree, shape, layout, np, with_actions=with_actions)
    if quantization is None:
        return jax.device_put(weights)
    # one after the other, so that the device never holds two models
    return quantize_tree(
        weights, quantization, put=lambda weight: jax.device_put(weight).block_until_ready()
    )


def abstract_weights(
    shape: ModelShape, layout: Layout, dtype: str, quantization: Quantization | None = None
) -> dict[str, Any]:
    """Shapes and dtypes of a model's weights without the weights, for counting."""
    leaves = {
        tuple(name.split("/")): struct(size, dtype) for name, size in expected_shapes(shape).items()
    }

    def arranged(tree: Params) -> dict[str, Any]:
        weights = arrange(tree, shape, layout, jnp)
        if quantization is None:
            return weights
        return quantize_tree(weights, quantization, put=lambda weight: weight)

    abstract: dict[str, Any] = jax.eval_shape(arranged, nest(leaves)["params"])
    return abstract


def struct(size: tuple[int, ...], dtype: Any) -> Any:
    """The shape and dtype of an array without its data."""
    abstract: Any = jax.ShapeDtypeStruct
    return abstract(size, dtype)

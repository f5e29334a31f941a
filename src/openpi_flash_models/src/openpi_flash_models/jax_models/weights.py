"""Puts a checkpoint's weights on the device, once, at load.

An action model and a planner of one checkpoint have vision tower, embedding and language expert in
common: what one of them has placed the other takes, as long as either lives.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.jax_models.arrange import PARTS, arrange
from openpi_flash_models.jax_models.quantized import quantize_tree
from openpi_flash_models.model.precision import Quantization
from openpi_flash_models.model.rearrangements import Layout
from openpi_flash_models.model.shape import ModelShape, expected_shapes

Params = Mapping[str, Any]

WITHOUT_ACTIONS = ("vision", "embedding", "language")
"""What a planner needs."""


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a checkpoint on the device, for as long as somebody holds it.

    Attributes:
        weights: arrays as :func:`arrange` has them.
    """

    weights: Any


_placed: WeakValueDictionary[Hashable, Part] = WeakValueDictionary()
_placing = threading.Lock()


def place_parts(
    tree: Params,
    shape: ModelShape,
    layout: Layout,
    *,
    parts: tuple[str, ...] = PARTS,
    quantization: Quantization | None = None,
    source: Hashable = None,
) -> dict[str, Part]:
    """Put the weights of a model on the default device, but for what is there already.

    Args:
        tree: the checkpoint's nested tree, without ``params``; numpy arrays (any JAX array works).
        shape: of the model.
        layout: what to fuse, and whether layers are apart.
        parts: which of ``arrange.PARTS``.
        quantization: eight-bit type of the layers' matrices and the embedding; None: the tree's.
        source: equal for trees that hold the same numbers; None: nothing is shared.

    Raises:
        InferenceConfigError: weights to quantize need ``fuse_projections``.
    """
    if quantization is not None and not layout.fuse_projections:
        raise InferenceConfigError(
            f"dtype: {quantization} needs fuse_projections; remove the switch from graph"
        )
    dtype = str(tree["PaliGemma"]["llm"]["embedder"]["input_embedding"].dtype)
    made: dict[str, Part] = {}
    # one after the other, so that two models that load at once do not both place a part
    with _placing:
        for name in parts:
            key = (source, dtype, layout, quantization, name)
            part = None if source is None else _placed.get(key)
            if part is None:
                arranged = arrange(tree, shape, layout, np, parts=(name,))
                if not arranged:
                    continue
                part = Part(_put(arranged, quantization)[name])
                if source is not None:
                    _placed[key] = part
            made[name] = part
    return made


def lay_out(
    tree: Params,
    shape: ModelShape,
    layout: Layout,
    *,
    parts: tuple[str, ...] = PARTS,
    quantization: Quantization | None = None,
) -> dict[str, Any]:
    """The weights of a model on the default device; see :func:`place_parts`."""
    placed = place_parts(tree, shape, layout, parts=parts, quantization=quantization)
    return {name: part.weights for name, part in placed.items()}


def _put(weights: dict[str, Any], quantization: Quantization | None) -> dict[str, Any]:
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

"""Counts the floating point operations of a call: the matrix products of its program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.jax_models import suffix
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.prefix import Prefix, embed_prefix, run_prefix
from openpi_flash_models.jax_models.weights import abstract_weights, struct
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import Rearrangements
from openpi_flash_models.model.shape import ModelShape


@dataclass(frozen=True)
class CallFlops:
    """Operations of one call for one observation; a multiplication and its sum are two.

    Attributes:
        prefix: images and prompt.
        features: the parts that depend on the flow time alone, for all steps.
        steps: the denoising steps.
    """

    prefix: int
    features: int
    steps: int

    @property
    def total(self) -> int:
        """All operations of the call."""
        return self.prefix + self.features + self.steps


def call_flops(
    shape: ModelShape,
    options: Rearrangements,
    *,
    cameras: int,
    prompt_slots: int,
    horizon: int = 50,
    num_steps: int = 10,
) -> CallFlops:
    """Count a call of pi0 or pi0.5 of any size; nothing is computed.

    Args:
        shape: of the model.
        options: how it computes.
        cameras: number of images.
        prompt_slots: length of the prompt.
        horizon: steps of a chunk.
        num_steps: denoising steps.
    """
    arch, weights = Arch(shape, options.graph), abstract_weights(shape, options.layout, "bfloat16")

    inputs = ModelInputs(
        images=struct((1, cameras, shape.image_size, shape.image_size, 3), jnp.uint8),
        image_mask=struct((1, cameras), bool),
        tokens=struct((1, prompt_slots), jnp.int32),
        token_mask=struct((1, prompt_slots), bool),
        state=struct((1, shape.action_dim), jnp.float32),
    )

    def read(weights: Any, inputs: ModelInputs) -> suffix.Context:
        tokens, valid = embed_prefix(arch, weights, inputs)
        nothing = jnp.zeros((1, 0), jnp.int32)
        prefix: Prefix = run_prefix(arch, weights, tokens, valid, nothing)[1]
        return suffix.context_of(arch, weights, prefix, inputs.state)

    def features(weights: Any, times: jax.Array) -> suffix.TimeFeatures:
        return suffix.time_features(arch, weights, times)

    def step(weights: Any, context: Any, x: jax.Array, made: Any) -> jax.Array:
        return suffix.velocity(arch, weights, context, x, suffix.at_time(made, jnp.int32(0)))

    times = struct((num_steps,), jnp.float32)
    context = jax.eval_shape(read, weights, inputs)
    made = jax.eval_shape(features, weights, times)
    x = struct((1, horizon, shape.action_dim), jnp.float32)
    return CallFlops(
        prefix=count(read, weights, inputs),
        features=count(features, weights, times),
        steps=num_steps * count(step, weights, context, x, made),
    )


def count(function: Callable[..., Any], *arguments: Any) -> int:
    """Operations of the matrix products of a function; arguments may be abstract."""
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(program: Any) -> int:
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = int(np.prod([left[axis] for axis in contracted]))
            total += 2 * inner * int(np.prod(equation.outvars[0].aval.shape))
        assert equation.primitive.name != "while", "a loop without a known length"
        repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for name in ("jaxpr", "call_jaxpr"):
            inside = equation.params.get(name)
            if inside is not None:
                total += repeats * _of(getattr(inside, "jaxpr", inside))
    return total

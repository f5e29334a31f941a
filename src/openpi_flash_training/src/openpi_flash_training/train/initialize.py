"""Random parameters of a model of any size, with openpi's distributions.

Source: ``openpi/models/{siglip,gemma,pi0}.py`` and the defaults of flax, which they use.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.model.shape import ModelShape, expected_shapes

Draw = Callable[[jax.Array, tuple[int, ...]], jax.Array]

_EMBEDDING_SIZE = 0.01
"""Standard deviation of a token's embedding."""
_SHORTEST_PERIOD = 8.0
"""Numbers after which the fastest sine of `smooth_numbers` repeats."""


def init_params(shape: ModelShape, key: jax.Array, *, from_scratch: bool = False) -> dict[str, Any]:
    """Parameters of a new model: openpi's nested tree without ``params``, float32.

    Each leaf is drawn from a key of its own name, so that a leaf does not depend on which others
    there are. Works under ``jax.eval_shape`` and ``jax.jit``.

    Args:
        shape: of the model.
        key: of the run.
        from_scratch: begin with open gates and a vision head that is not zero, for small models
            whose training starts here; openpi's zeros are for a model that starts from PaliGemma.
    """
    rules = (*_FROM_SCRATCH, *_OPENPI) if from_scratch else _OPENPI
    leaves = {}
    for name, size in expected_shapes(shape).items():
        draw = next(draw for pattern, draw in rules if re.search(pattern, name))
        of_name = jax.random.fold_in(key, zlib.crc32(name.encode()))
        leaves[tuple(name.split("/"))] = draw(of_name, size)
    tree: dict[str, Any] = nest(leaves)["params"]
    return tree


def smooth_numbers(params: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """The parameters with embeddings of numbers that are the more alike the nearer the numbers.

    pi0.5 reads the state as numbers, one piece each in a small vocabulary: with a random row for
    each, a model learns each number by itself, and rare ones hardly. The rows are sines of the
    number, as those of positions (Vaswani et al. 2017, section 3.5), of the size of other rows.

    Args:
        params: of `init_params`.
        ids: rows of numbers that follow each other; empty: nothing is changed.
    """
    if not ids:
        return dict(params)
    table = params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    waves = -(-table.shape[1] // 2)
    periods = jnp.geomspace(_SHORTEST_PERIOD, 4 * len(ids), waves)
    angles = 2 * jnp.pi * jnp.arange(len(ids))[:, None] / periods
    rows = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], 1)[:, : table.shape[1]]
    table = table.at[jnp.array(ids)].set(_EMBEDDING_SIZE * jnp.sqrt(2.0) * rows)
    llm = {**params["PaliGemma"]["llm"], "embedder": {"input_embedding": table}}
    return {**params, "PaliGemma": {**params["PaliGemma"], "llm": llm}}


def _positions(key: jax.Array, size: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(key, size) / jnp.sqrt(size[-1])


def _open_gates(_: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Biases of scale, shift and gate, of which the gates are one."""
    gates = jnp.repeat(jnp.array([0.0, 0.0, 1.0]), size[-1] // 3)
    return jnp.broadcast_to(gates, size)


# The first pattern that is found in a name decides. Layers' leaves have the layers' axis first;
# heads and the halves of gate and up are drawn apart from each other, as layers are.
_OPENPI: tuple[tuple[str, Draw], ...] = (
    ("/img/.*/scale$", initializers.ones),
    ("/pos_embedding$", _positions),
    ("/img/.*MlpBlock_0/.*/bias$", initializers.normal(1e-6)),
    ("/img/.*MlpBlock_0/.*/kernel$", initializers.glorot_uniform(batch_axis=(0,))),
    ("/img/embedding/kernel$", initializers.lecun_normal(in_axis=(0, 1, 2))),
    ("/img/head/kernel$", initializers.zeros),
    (
        "/img/.*/out/kernel$",
        initializers.glorot_uniform(in_axis=(1, 2), out_axis=3, batch_axis=(0,)),
    ),
    (
        "/img/.*/kernel$",
        initializers.glorot_uniform(in_axis=1, out_axis=(2, 3), batch_axis=(0,)),
    ),
    ("/input_embedding$", initializers.normal(_EMBEDDING_SIZE)),
    ("/Dense_0/|/scale$|/bias$", initializers.zeros),
    ("/attn_vec_einsum(_1)?/w$", initializers.lecun_normal(in_axis=(1, 2), batch_axis=(0,))),
    ("/kv_einsum(_1)?/w$", initializers.lecun_normal(batch_axis=(0, 1, 2))),
    ("/q_einsum(_1)?/w$|/gating_einsum$", initializers.lecun_normal(batch_axis=(0, 1))),
    ("/linear$", initializers.lecun_normal(batch_axis=(0,))),
    ("/kernel$", initializers.lecun_normal()),
)
_FROM_SCRATCH: tuple[tuple[str, Draw], ...] = (
    ("/img/head/kernel$", initializers.lecun_normal()),
    ("/layers/.*/Dense_0/bias$", _open_gates),
)

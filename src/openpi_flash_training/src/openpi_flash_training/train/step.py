"""One update: loss, gradients, optimiser, running mean; compiled once, in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from openpi_flash_training.train.lora import join, split
from openpi_flash_training.train.mesh import batch_sharding, part_sharding, whole
from openpi_flash_training.train.optimizer import update_ema

Params = Mapping[str, Any]
Metrics = dict[str, jax.Array]
_NOT_KERNELS = re.compile(r"(^|/)(bias|scale|pos_embedding|input_embedding)$")


class Loss(Protocol):
    """``losses.loss`` with its settings."""

    def __call__(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, Metrics]:
        """The mean loss of a batch, and its parts by name."""


@dataclass(frozen=True)
class TrainState:
    """Everything that an update changes.

    Attributes:
        step: int32 scalar, updates done.
        params: openpi's nested tree without ``params``, frozen leaves included.
        opt_state: of the trained leaves.
        ema: running mean of the parameters; None: no mean is kept.
    """

    step: Any
    params: Any
    opt_state: Any
    ema: Any = None


jax.tree_util.register_dataclass(
    TrainState, data_fields=["step", "params", "opt_state", "ema"], meta_fields=[]
)


@dataclass(frozen=True)
class Recipe:
    """What an update does.

    Attributes:
        loss: of a batch.
        optimizer: for the trained leaves.
        schedule: learning rate by the number of updates, for the log.
        mask: a tree like the parameters of bools: which leaves are trained.
        seed: of the losses' keys.
        accumulation: parts in which a batch is computed.
        ema_decay: of the running mean; None: none.
    """

    loss: Loss
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    mask: Params
    seed: int
    accumulation: int = 1
    ema_decay: float | None = None


def init_state(params: Params, recipe: Recipe) -> TrainState:
    """The state before the first update; works under ``jax.eval_shape``."""
    trained, _ = split(params, recipe.mask)
    ema = None
    if recipe.ema_decay is not None:
        ema = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
    return TrainState(jnp.int32(0), params, recipe.optimizer.init(trained), ema)


def compile_step(
    recipe: Recipe, mesh: Mesh, shardings: TrainState
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """The update as a program: ``state, metrics = step(state, batch)``; the old state is gone.

    Args:
        recipe: what it does.
        mesh: of ``mesh.make_mesh``.
        shardings: of the state.
    """

    def update(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        return train_step(state, batch, recipe, mesh)

    return jax.jit(
        update,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, whole(mesh)),
        donate_argnums=0,
    )


def train_step(
    state: TrainState, batch: Any, recipe: Recipe, mesh: Mesh
) -> tuple[TrainState, Metrics]:
    """One update. Pure.

    Args:
        state: before.
        batch: a pytree, every leaf [B, ...].
        recipe: what to do.
        mesh: that the batch is spread over.

    Returns:
        The state after, and float32 scalars: ``loss`` and its parts, ``grad_norm`` (before the
        clip), ``param_norm`` (after the update) and ``learning_rate``, both as openpi logs them.
    """
    trained, frozen = split(state.params, recipe.mask)
    # openpi's: a step's randomness is a function of the seed and the step alone
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)

    def loss(trained: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return recipe.loss(join(trained, frozen), batch, key)

    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    if recipe.accumulation == 1:
        (total, parts), grads = value_and_grad(trained, batch, key)
    else:
        (total, parts), grads = _accumulate(
            value_and_grad, trained, (batch, key), count=recipe.accumulation, mesh=mesh
        )
    updates, opt_state = recipe.optimizer.update(grads, state.opt_state, trained)
    params = join(optax.apply_updates(trained, updates), frozen)
    ema = state.ema
    if recipe.ema_decay is not None:
        ema = update_ema(ema, params, recipe.ema_decay)
    metrics = {
        "loss": total,
        **parts,
        "grad_norm": optax.tree.norm(grads),
        "param_norm": kernel_norm(params),
        "learning_rate": jnp.asarray(recipe.schedule(state.step)),
    }
    metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
    return TrainState(state.step + 1, params, opt_state, ema), metrics


def kernel_norm(params: Params) -> jax.Array:
    """Norm over the leaves of more than one axis but biases, scales and embeddings, as openpi's."""
    leaves = [
        leaf.astype(jnp.float32)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if leaf.ndim > 1 and not _NOT_KERNELS.search("/".join(str(part.key) for part in path))
    ]
    return optax.tree.norm(leaves)


def _accumulate(
    value_and_grad: Callable[..., Any],
    trained: Params,
    given: tuple[Any, jax.Array],
    *,
    count: int,
    mesh: Mesh,
) -> Any:
    """Mean of loss, parts and gradients over parts of a batch, of which one is in memory."""
    batch, key = given
    spread = part_sharding(mesh)

    constrain: Any = jax.lax.with_sharding_constraint

    def part_rows(leaf: jax.Array) -> jax.Array:
        # every count-th row, so that each device computes on rows that it holds
        rows = leaf.reshape(leaf.shape[0] // count, count, *leaf.shape[1:])
        return constrain(jnp.moveaxis(rows, 1, 0), spread)

    def add(carry: Any, part: tuple[Any, jax.Array]) -> tuple[Any, None]:
        made = value_and_grad(trained, *part)
        return jax.tree.map(lambda total, new: total + new / count, carry, made), None

    parts = jax.tree.map(part_rows, batch), jax.random.split(key, count)
    shapes = jax.eval_shape(value_and_grad, trained, *jax.tree.map(lambda leaf: leaf[0], parts))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, parts)[0]

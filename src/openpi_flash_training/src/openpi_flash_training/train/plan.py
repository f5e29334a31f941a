"""A run as programs and shapes: what is trained, where it lies, how it begins."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from openpi_flash_models.checkpoints.leaves import DTYPES, nest
from openpi_flash_models.load import read_tree
from openpi_flash_models.model.shape import ModelShape, expected_shapes
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_training.train.assemble import Assembled
from openpi_flash_training.train.batch import Batch, Tokens
from openpi_flash_training.train.extra_losses import add_heads
from openpi_flash_training.train.initialize import init_params, smooth_numbers
from openpi_flash_training.train.lora import add_adapters, narrow_frozen, trainable
from openpi_flash_training.train.losses import loss
from openpi_flash_training.train.mesh import batch_sharding, put, state_shardings
from openpi_flash_training.train.optimizer import learning_rate, make_optimizer
from openpi_flash_training.train.step import (
    Metrics,
    Recipe,
    TrainState,
    compile_step,
    init_state,
)

_struct: Any = jax.ShapeDtypeStruct
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@dataclass(frozen=True)
class Plan:
    """What a run does on which devices.

    Attributes:
        assembled: model, samples, loss.
        mesh: of devices.
        recipe: of an update.
        state: shapes, dtypes and shardings of the training state.
        shardings: of the training state.
    """

    assembled: Assembled
    mesh: Mesh
    recipe: Recipe
    state: TrainState
    shardings: TrainState

    def step(self) -> Step:
        """The compiled update."""
        return compile_step(self.recipe, self.mesh, self.shardings)

    def first_state(self) -> TrainState:
        """The state before the first update: weights read, or drawn.

        Raises:
            CheckpointError: the weights cannot be read.
        """
        finish = functools.partial(_finish, self.assembled, self.recipe)
        weights = self.assembled.weights
        if weights is None:
            begin = jax.jit(lambda: finish(_random(self.assembled)), out_shardings=self.shardings)
            return begin()
        tree, _ = read_tree(weights, kind=self.assembled.config.kind, dtype="float32")
        mask = _like(tree, self.recipe.mask)
        # frozen leaves are narrow on the host already: the device never holds them wide
        tree = jax.tree.map(
            lambda leaf, trained: leaf if trained else leaf.astype(DTYPES["bfloat16"]), tree, mask
        )
        params = put(tree, _like(tree, self.shardings.params))
        begin = jax.jit(finish, out_shardings=self.shardings, donate_argnums=0)
        return begin(params)

    def working_bytes(self) -> int | None:
        """The most memory that an update needs on a device besides the state, as compiled."""
        compiled = self.step().lower(self.state, self._abstract_batch()).compile()  # type: ignore[attr-defined]
        analysis = compiled.memory_analysis()
        return None if analysis is None else int(analysis.temp_size_in_bytes)

    def _abstract_batch(self) -> Batch:
        sharding = batch_sharding(self.mesh)
        rows = self.assembled.settings.run.batch_size
        sample = as_batch(self.assembled.samples[0])
        return jax.tree.map(
            lambda leaf: _struct(
                (rows, *np.shape(leaf)), np.asarray(leaf).dtype, sharding=sharding
            ),
            sample,
        )


def make_plan(assembled: Assembled, mesh: Mesh) -> Plan:
    """The plan of a run; nothing is read or computed."""
    settings = assembled.settings
    abstract = jax.eval_shape(lambda: _extended(assembled, _zeros(assembled.shape)))
    mask = trainable(abstract, settings.model.lora)
    recipe = Recipe(
        loss=functools.partial(loss, settings=assembled.loss),
        optimizer=make_optimizer(settings.optimizer, mask),
        schedule=learning_rate(settings.optimizer),
        mask=mask,
        seed=settings.run.seed,
        accumulation=settings.run.accumulation,
        ema_decay=settings.optimizer.ema_decay,
    )
    state = jax.eval_shape(lambda: _finish(assembled, recipe, _zeros(assembled.shape)))
    shardings = state_shardings(state, mesh)
    placed = jax.tree.map(
        lambda leaf, place: _struct(leaf.shape, leaf.dtype, sharding=place),
        state,
        shardings,
    )
    return Plan(assembled, mesh, recipe, placed, shardings)


def as_batch(arrays: Mapping[str, Any]) -> Batch:
    """A batch of the loader's arrays."""
    return Batch(
        images=arrays["images"],
        image_masks=arrays["image_masks"],
        state=arrays.get("state"),
        actions=arrays["actions"],
        prompt=Tokens(**arrays["prompt"]),
        subtask=Tokens(**arrays["subtask"]) if "subtask" in arrays else None,
        labels=arrays.get("labels"),
    )


def _zeros(shape: ModelShape) -> dict[str, Any]:
    leaves = {tuple(name.split("/")): np.zeros((), np.float32) for name in expected_shapes(shape)}
    sizes = {tuple(name.split("/")): size for name, size in expected_shapes(shape).items()}
    # no memory: one number, seen as often as needed
    views = {path: np.broadcast_to(leaf, sizes[path]) for path, leaf in leaves.items()}
    tree: dict[str, Any] = nest(views)["params"]
    return tree


def _random(assembled: Assembled) -> dict[str, Any]:
    params = init_params(assembled.shape, _key(assembled, 0), from_scratch=True)
    words = PaligemmaTokenizer(assembled.samples.recipe.tokenizer)
    return smooth_numbers(params, words.state_numbers)


def _extended(assembled: Assembled, params: Mapping[str, Any]) -> dict[str, Any]:
    """With the adapters and the heads of extra losses."""
    lora = assembled.settings.model.lora
    if lora is not None:
        params = add_adapters(params, lora, _key(assembled, 1))
    return add_heads(params, assembled.shape, assembled.loss.extra, _key(assembled, 2))


def _finish(assembled: Assembled, recipe: Recipe, params: Mapping[str, Any]) -> TrainState:
    return init_state(narrow_frozen(_extended(assembled, params), recipe.mask), recipe)


def _key(assembled: Assembled, number: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(assembled.settings.run.seed), 2**31 + number)


def _like(tree: Mapping[str, Any], wider: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a tree that has another one's leaves."""
    return {
        key: _like(value, wider[key]) if isinstance(value, Mapping) else wider[key]
        for key, value in tree.items()
    }

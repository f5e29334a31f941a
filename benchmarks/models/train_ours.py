"""Our update, as `openpi-flash train` compiles it. An arm of `train_peer.py`, which starts it."""

from __future__ import annotations

import functools

import jax
import numpy as np
from torch_case import HORIZON
from train_case import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    RATE,
    WEIGHT_DECAY,
    TrainingCase,
    answer_steps,
    case_of_arguments,
)

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_training.train.batch import Batch, Tokens
from openpi_flash_training.train.flow_loss import draw_samples
from openpi_flash_training.train.lora import trainable
from openpi_flash_training.train.losses import LossSettings, loss
from openpi_flash_training.train.mesh import make_mesh, put, put_batch, state_shardings
from openpi_flash_training.train.optimizer import OptimizerSettings, learning_rate, make_optimizer
from openpi_flash_training.train.step import Recipe, compile_step, init_state

SEED, MOST_STEPS = 0, 200


def main() -> None:
    """Compile, write the draws, and answer."""
    given = case_of_arguments()
    write_draws(given)
    mesh = make_mesh(1, jax.devices()[:1])
    params = nest(given.case.leaves)["params"]
    mask = trainable(params, None)
    optimizer = OptimizerSettings(
        peak_rate=RATE,
        schedule="constant",
        beta1=BETAS[0],
        beta2=BETAS[1],
        epsilon=EPSILON,
        weight_decay=WEIGHT_DECAY,
        clip_norm=CLIP_NORM,
        ema_decay=None,
    )
    recipe = Recipe(
        loss=functools.partial(loss, settings=LossSettings(shape=given.case.shape)),
        optimizer=make_optimizer(optimizer, mask),
        schedule=learning_rate(optimizer),
        mask=mask,
        seed=SEED,
    )
    state = init_state(params, recipe)
    shardings = state_shardings(jax.eval_shape(lambda: state), mesh)
    state = put(state, shardings)
    batch = put_batch(batch_of(given), mesh)
    update = compile_step(recipe, mesh, shardings).lower(state, batch).compile()  # type: ignore[attr-defined]

    def step(number: int) -> float:
        nonlocal state
        assert int(state.step) == number
        state, metrics = update(state, batch)
        for leaf in jax.tree.leaves(state):
            leaf.block_until_ready()
        return float(metrics["loss"])

    answer_steps(step)


def batch_of(given: TrainingCase) -> Batch:
    """The batch as the loss takes it."""
    present = np.ones(len(given.words), bool)
    return Batch(
        images={name: given.images[:, place] for place, name in enumerate(CAMERAS)},
        image_masks=dict.fromkeys(CAMERAS, present),
        state=given.state,
        actions=given.actions,
        prompt=Tokens(given.words.astype(np.int32), np.ones(given.words.shape, bool)),
    )


def write_draws(given: TrainingCase) -> None:
    """Write the noise and the times that the updates will draw."""
    shape = (len(given.words), HORIZON, given.case.shape.action_dim)
    keys = [jax.random.fold_in(jax.random.key(SEED), step) for step in range(MOST_STEPS)]
    draws = [draw_samples(key, shape, 1, 0) for key in keys]
    np.savez(
        given.draws,
        noise=np.stack([np.asarray(draw.noise[0]) for draw in draws]),
        time=np.stack([np.asarray(draw.time[0]) for draw in draws]),
    )


if __name__ == "__main__":
    main()

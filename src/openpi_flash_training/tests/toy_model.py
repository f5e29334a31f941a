"""A model of three tensors with the loop's interfaces: it compiles in a moment."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from openpi_flash_training.train.mesh import make_mesh, put, put_batch, state_shardings
from openpi_flash_training.train.step import Recipe, compile_step, init_state

RATE = 1e-2
MASK = {"first": {"kernel": True}, "second": {"kernel": True, "bias": False}}


def loss(params, batch, key, noise=0.1):
    """Squared error of two linear maps, with noise on the target."""
    drawn = jax.random.normal(key, batch["y"].shape)
    hidden = batch["x"] @ params["first"]["kernel"]
    made = hidden @ params["second"]["kernel"] + params["second"]["bias"]
    error = jnp.mean((made - batch["y"] - noise * drawn) ** 2)
    return error, {"flow_loss": error}


def params():
    """Numpy tensors, the same each time."""
    random = np.random.default_rng(0)
    first, second = random.normal(size=(8, 16)), random.normal(size=(16, 4))
    return {
        "first": {"kernel": first.astype(np.float32)},
        "second": {"kernel": second.astype(np.float32), "bias": np.ones(4, np.float32)},
    }


def batches(count, rows=8):
    """Numpy batches, the same each time."""
    random = np.random.default_rng(1)
    return [
        {name: random.normal(size=(rows, n)).astype(np.float32) for name, n in (("x", 8), ("y", 4))}
        for _ in range(count)
    ]


def recipe(**changes):
    """Of an update with openpi's optimiser at a constant rate."""
    schedule = optax.constant_schedule(RATE)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=1e-10)
    )
    fields = {"loss": loss, "optimizer": optimizer, "schedule": schedule, "mask": MASK, "seed": 1}
    return Recipe(**(fields | changes))


class Run:
    """A state on devices and its program."""

    def __init__(self, made=None, *, devices=None, fsdp=1):
        self.recipe = made or recipe()
        self.mesh = make_mesh(fsdp, devices or jax.devices()[:1])
        self.shapes = jax.eval_shape(lambda p: init_state(p, self.recipe), params())
        self.shardings = state_shardings(self.shapes, self.mesh, least_bytes=0)
        begin = jax.jit(lambda p: init_state(p, self.recipe), out_shardings=self.shardings)
        self.state = begin(put(params(), self.shardings.params))
        self._step = compile_step(self.recipe, self.mesh, self.shardings)

    def like(self):
        """Shapes, dtypes and shardings of the state."""
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            self.shapes,
            self.shardings,
        )

    def take(self, given):
        """Update by each batch; the metrics."""
        found = []
        for batch in given:
            self.state, metrics = self._step(self.state, put_batch(batch, self.mesh))
            found.append({name: float(value) for name, value in metrics.items()})
        return found

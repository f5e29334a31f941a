"""One update: what it changes, what it reports, and in how many parts it may be computed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_model import RATE, Run, batches, loss, params, recipe

from openpi_flash_training.train.mesh import check_batch, make_mesh
from openpi_flash_training.train.problem import SettingsError
from openpi_flash_training.train.step import kernel_norm


def quiet_loss(given, batch, key):
    """Without noise, so that parts of a batch add up to the whole."""
    return loss(given, batch, key, noise=0.0)


def test_the_loss_falls_and_frozen_leaves_stay():
    run = Run()
    metrics = run.take(batches(1) * 30)
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
    assert (np.asarray(run.state.params["second"]["bias"]) == 1).all()
    assert int(run.state.step) == 30


def test_the_reported_norm_is_that_of_the_trained_gradient_before_the_clip():
    (batch,) = batches(1)
    (metrics,) = Run().take([batch])
    key = jax.random.fold_in(jax.random.key(1), 0)
    grads = jax.grad(lambda p: loss(p, batch, key)[0])(jax.tree.map(jnp.asarray, params()))
    trained = {"first": grads["first"], "second": {"kernel": grads["second"]["kernel"]}}
    assert metrics["grad_norm"] == pytest.approx(float(optax.tree.norm(trained)), rel=1e-5)
    assert metrics["grad_norm"] > 1  # so that the clip would show
    assert metrics["learning_rate"] == pytest.approx(RATE)


def test_the_first_update_is_adams():
    (batch,) = batches(1)
    run = Run()
    run.take([batch])
    moved = np.asarray(run.state.params["first"]["kernel"]) - params()["first"]["kernel"]
    # m / sqrt(v) of the first step is the gradient's sign
    assert np.abs(np.abs(moved) - RATE).max() < 1e-5


def test_the_norm_of_parameters_leaves_out_biases_scales_and_embeddings():
    tree = {
        "a": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2, 2), 9.0)},
        "norm": {"scale": jnp.full((2, 2), 9.0)},
        "img": {"pos_embedding": jnp.full((1, 2, 2), 9.0)},
        "embedder": {"input_embedding": jnp.full((2, 2), 9.0)},
        "b": {"w": jnp.full((4,), 9.0)},
    }
    assert float(kernel_norm(tree)) == 6.0


@pytest.mark.parametrize("count", [2, 4])
def test_a_batch_in_parts_gives_the_update_of_the_whole(count):
    given = batches(3)
    whole, parts = Run(recipe(loss=quiet_loss)), Run(recipe(loss=quiet_loss, accumulation=count))
    expected, found = whole.take(given), parts.take(given)
    for a, b in zip(expected, found, strict=True):
        assert b == pytest.approx(a, rel=1e-5)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(parts.state), strict=True):
        assert np.abs(np.asarray(a) - np.asarray(b)).max() < 1e-5


def test_each_step_and_each_part_of_it_has_noise_of_its_own():
    def noise(given, batch, key):
        drawn = jax.random.normal(key, ())
        return 0 * loss(given, batch, key)[0] + drawn, {}

    (batch,) = batches(1)
    one, two = Run(recipe(loss=noise)).take([batch, batch])
    assert one["loss"] != two["loss"]
    (parts,) = Run(recipe(loss=noise, accumulation=2)).take([batch])
    keys = jax.random.split(jax.random.fold_in(jax.random.key(1), 0), 2)
    mean = np.mean([float(jax.random.normal(key, ())) for key in keys])
    assert parts["loss"] == pytest.approx(mean, rel=1e-5)


def test_the_running_mean_starts_with_the_parameters_and_follows_them():
    run = Run(recipe(ema_decay=0.9))
    start = params()["first"]["kernel"]
    run.take(batches(1))
    expected = 0.9 * start + 0.1 * np.asarray(run.state.params["first"]["kernel"])
    assert np.abs(np.asarray(run.state.ema["first"]["kernel"]) - expected).max() < 1e-6
    assert (np.asarray(run.state.ema["second"]["bias"]) == 1).all()


def test_the_old_state_is_given_up():
    run = Run()
    before = run.state.params["first"]["kernel"]
    run.take(batches(1))
    assert before.is_deleted()


@pytest.mark.parametrize(
    ("rows", "accumulation", "message"),
    [
        (6, 4, "run.batch_size: is 6, expected a multiple of 4 (1 devices, accumulation 4)"),
    ],
)
def test_a_batch_that_cannot_be_split_is_refused(rows, accumulation, message):
    with pytest.raises(SettingsError) as caught:
        check_batch(make_mesh(1, jax.devices()[:1]), rows, accumulation)
    assert str(caught.value) == message


def test_an_axis_that_does_not_divide_the_devices_is_refused():
    with pytest.raises(SettingsError, match="fsdp_devices: is 2, which does not divide the 1"):
        make_mesh(2, jax.devices()[:1])

"""Loss, gradients and the first optimiser steps of pi0.5 are openpi's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from openpi_reference import counted, flat, leaves_of, norms, observation, recorded, tiny_tree

from openpi_flash_training.train.flow_loss import FlowSample, draw_samples, flow_loss
from openpi_flash_training.train.forward import build_model, read_text, see
from openpi_flash_training.train.losses import LossSettings, loss
from openpi_flash_training.train.optimizer import OptimizerSettings, make_optimizer, update_ema

CONSTANT = OptimizerSettings(peak_rate=1e-3, schedule="constant")
COSINE = OptimizerSettings(peak_rate=1e-3, warmup_steps=2, decay_steps=8, end_rate=1e-4)


def images_of(batch):
    images = jnp.stack([jnp.asarray(batch.images[name]) for name in batch.images], axis=1)
    return images, jnp.stack([batch.image_masks[name] for name in batch.images], axis=1)


def squared_errors(params, given, *, dtype="float32", remat=False, unroll=True, lora=None):
    """openpi's loss [B, H] for its own noise and time."""
    _, shape = tiny_tree("pi05")
    batch = observation("pi05")
    model = build_model(params, shape, dtype=dtype, lora=lora, remat=remat, unroll=unroll)
    _, prefix = read_text(model, see(model, *images_of(batch)), batch.prompt, None)
    sample = FlowSample(given["noise"][None], given["time"][None], jnp.zeros((1, 2), jnp.int32))
    return flow_loss(model, prefix, None, given["actions"], sample)[0]


@functools.cache
def gradient(**options):
    def mean(params, given):
        errors = squared_errors(params, given, **options)
        return errors.mean(), errors

    return jax.jit(jax.value_and_grad(mean, has_aux=True))


@pytest.fixture(scope="module")
def given():
    return recorded("training_pi05")


@pytest.mark.parametrize("options", [{}, {"unroll": False, "remat": True}], ids=str)
def test_the_loss_and_its_gradient_are_openpis(options, given):
    batch = {name: given[name] for name in ("actions", "noise", "time")}
    (mean, errors), made = gradient(**options)(tiny_tree("pi05")[0], batch)
    np.testing.assert_allclose(errors, given["loss"], atol=1e-5)
    np.testing.assert_allclose(mean, given["const/loss"][0], rtol=1e-6)
    names = given["leaf_names"].tolist()
    assert sorted(flat(made)) == sorted(names)
    used = counted(names)
    found, expected = norms(made, names), given["const/grad_norm"][0]
    np.testing.assert_allclose(found[used], expected[used], rtol=1e-4, atol=1e-7)
    for name, leaf in leaves_of(given, "const/grad/0").items():
        np.testing.assert_allclose(flat(made)[name], leaf, atol=1e-5, err_msg=name)


def test_some_leaves_are_part_of_the_tree_and_have_no_gradient(given):
    batch = {name: given[name] for name in ("actions", "noise", "time")}
    made = flat(gradient()(tiny_tree("pi05")[0], batch)[1])
    llm = "PaliGemma/llm"
    assert not made[f"{llm}/final_norm/scale"].any()
    for name in ("attn/q_einsum/w", "attn/attn_vec_einsum/w", "mlp/linear", "pre_ffw_norm/scale"):
        leaf = made[f"{llm}/layers/{name}"]
        assert leaf[:-1].any()
        assert not leaf[-1].any(), name


@pytest.mark.parametrize(("name", "settings"), [("const", CONSTANT), ("cos", COSINE)])
def test_three_steps_are_openpis(name, settings, given):
    batch = {part: given[part] for part in ("actions", "noise", "time")}
    start, names = tiny_tree("pi05")[0], given["leaf_names"].tolist()
    params, optimizer = jax.tree.map(jnp.asarray, start), make_optimizer(settings)
    state, ema = optimizer.init(params), params
    update = jax.jit(optimizer.update)
    used = counted(names)
    for step in range(3):
        (mean, _), made = gradient()(params, batch)
        np.testing.assert_allclose(mean, given[f"{name}/loss"][step], rtol=2e-5)
        norm = optax.tree.norm(made)
        np.testing.assert_allclose(norm, given[f"{name}/global_norm"][step], rtol=1e-4)
        found, expected = norms(made, names), given[f"{name}/grad_norm"][step]
        np.testing.assert_allclose(found[used], expected[used], rtol=1e-4, atol=1e-6)
        changes, state = update(made, state, params)
        params = optax.apply_updates(params, changes)
        ema = update_ema(ema, params, 0.99)
        if step in (0, 2):
            expected = given[f"{name}/param_norm/{step + 1}"]
            np.testing.assert_allclose(norms(params, names)[used], expected[used], rtol=1e-4)
            moved = jax.tree.map(lambda now, then: np.asarray(now) - then, params, start)
            expected = given[f"{name}/update_norm/{step + 1}"]
            np.testing.assert_allclose(norms(moved, names)[used], expected[used], rtol=5e-3)
    for leaf, expected in leaves_of(given, f"{name}/param/3").items():
        np.testing.assert_allclose(flat(params)[leaf], expected, atol=1e-4, err_msg=leaf)
    if name == "const":
        adam = state[1][0]
        for part, tree, close in (("mu", adam.mu, 1e-5), ("nu", adam.nu, 1e-6), ("ema", ema, 1e-5)):
            found, expected = norms(tree, names), given[f"const/{part}_norm/3"]
            np.testing.assert_allclose(found[used], expected[used], rtol=5e-4, atol=1e-9)
            for leaf, values in leaves_of(given, f"const/{part}/3").items():
                np.testing.assert_allclose(flat(tree)[leaf], values, atol=close, err_msg=leaf)
        assert {leaf.dtype for leaf in flat(adam.mu).values()} == {np.dtype(np.float32)}


def test_bfloat16_compute_gives_float32_gradients_close_to_openpis(given):
    batch = {name: given[name] for name in ("actions", "noise", "time")}
    (mean, errors), made = gradient(dtype="bfloat16")(tiny_tree("pi05")[0], batch)
    np.testing.assert_allclose(errors, given["bf16/loss"], rtol=3e-2)
    np.testing.assert_allclose(mean, given["bf16/loss_mean"], rtol=5e-3)
    assert abs(float(mean) - given["const/loss"][0]) > 1e-6, "computed in float32"
    assert {leaf.dtype for leaf in flat(made).values()} == {np.dtype(np.float32)}
    names = given["leaf_names"].tolist()
    used = counted(names) & (given["bf16/grad_norm"] > 1e-3)
    found = norms(made, names)[used]
    np.testing.assert_allclose(found, given["bf16/grad_norm"][used], rtol=5e-2)
    np.testing.assert_allclose(optax.tree.norm(made), given["bf16/global_norm"], rtol=2e-2)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_a_key_draws_what_openpi_draws_from_it(kind):
    params, shape = tiny_tree(kind)
    arrays = recorded("losses_of_key_42")
    actions, expected = arrays[f"{kind}/loss_input_actions"], arrays[f"{kind}/loss_key42"]
    batch = dataclasses.replace(observation(kind), actions=actions)
    found, parts = jax.jit(loss, static_argnames="settings")(
        params, batch, jax.random.key(42), settings=LossSettings(shape)
    )
    np.testing.assert_allclose(found, expected.mean(), rtol=1e-5)
    assert set(parts) == {"flow_loss"}


def test_times_are_openpis_distribution():
    sample = draw_samples(jax.random.key(0), (4000, 1, 1), 1, 0)
    time = np.asarray(sample.time[0])
    assert (time > 0.001).all()
    assert (time <= 1).all()
    # Beta(1.5, 1) has the mean 0.6 and the distribution function x ** 1.5
    np.testing.assert_allclose(time.mean(), 0.001 + 0.999 * 0.6, atol=0.02)
    np.testing.assert_allclose((time < 0.5).mean(), 0.5**1.5, atol=0.03)

"""The optimiser and its schedules are openpi's."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from openpi_reference import DATA, recorded

from openpi_flash_training.train.optimizer import (
    OptimizerSettings,
    learning_rate,
    make_optimizer,
    update_ema,
)

RUNS = {
    "const": OptimizerSettings(peak_rate=1e-3, schedule="constant"),
    "wd0.1": OptimizerSettings(peak_rate=1e-3, schedule="constant", weight_decay=0.1),
    "cos": OptimizerSettings(peak_rate=1e-3, warmup_steps=2, decay_steps=8, end_rate=1e-4),
}
LEAVES = ("a", "b", "c")


@pytest.mark.parametrize("name", RUNS)
def test_six_steps_are_openpis(name):
    toy = recorded("optimizer_toy")
    params = {leaf: jnp.asarray(toy[f"p0/{leaf}"]) for leaf in LEAVES}
    optimizer = make_optimizer(RUNS[name])
    state = optimizer.init(params)
    for step in range(6):
        made = {leaf: toy[f"grad/{step}/{leaf}"] for leaf in LEAVES}
        np.testing.assert_allclose(optax.tree.norm(made), toy["global_norm"][step], rtol=1e-6)
        changes, state = optimizer.update(made, state, params)
        params = optax.apply_updates(params, changes)
        for leaf in LEAVES:
            expected = toy[f"{name}/p/{step + 1}/{leaf}"]
            np.testing.assert_allclose(params[leaf], expected, rtol=0, atol=1e-6)
    for leaf in LEAVES:
        np.testing.assert_allclose(state[1][0].mu[leaf], toy[f"{name}/mu/6/{leaf}"], atol=1e-6)
        np.testing.assert_allclose(state[1][0].nu[leaf], toy[f"{name}/nu/6/{leaf}"], atol=1e-6)


SCHEDULES = json.loads((DATA / "lr_schedules.json").read_text())["schedules"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_openpis(name):
    given = SCHEDULES[name]
    is_cosine = given["kind"] == "CosineDecaySchedule"
    settings = OptimizerSettings(
        peak_rate=given["peak_lr"],
        warmup_steps=given["warmup_steps"],
        decay_steps=given["decay_steps"] if is_cosine else given["timescale"],
        end_rate=given.get("decay_lr", 0.0),
        schedule="cosine" if is_cosine else "inverse_root",
    )
    rate = learning_rate(settings)
    found = [float(rate(step)) for step in given["step"]]
    np.testing.assert_allclose(found, given["lr"], rtol=1e-5)


def test_the_state_and_the_updates_hold_trained_leaves_only():
    params = {"frozen": {"w": jnp.ones(3, jnp.bfloat16)}, "trained": {"w": jnp.ones(2)}}
    mask = {"frozen": {"w": False}, "trained": {"w": True}}
    optimizer = make_optimizer(RUNS["const"], mask)
    state = optimizer.init(params)
    assert [leaf.shape for leaf in jax.tree.leaves(state[1][0].mu)] == [(2,)]
    huge = {"frozen": {"w": jnp.full(3, 1e9)}, "trained": {"w": jnp.array([0.1, 0.2])}}
    whole, after = optimizer.update(huge, state, params)
    assert not whole["frozen"]["w"].any()
    some, _ = optimizer.update(huge | {"frozen": {"w": None}}, state, params)
    assert some["frozen"]["w"] is None
    # what is frozen has no part in the norm that is clipped
    alone = make_optimizer(RUNS["const"])
    expected, _ = alone.update(huge["trained"], alone.init(params["trained"]), params["trained"])
    for found in (whole, some):
        np.testing.assert_array_equal(found["trained"]["w"], expected["w"])
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_the_state_has_openpis_places():
    """openpi's checkpoints say opt_state/1/0/{count,mu,nu} and opt_state/1/2/count."""
    params = {"w": jnp.ones(2)}
    state = make_optimizer(RUNS["cos"], {"w": True}).init(params)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
    assert paths == ["[1][0].count", "[1][0].mu['w']", "[1][0].nu['w']", "[1][2].count"]


def test_the_running_mean_moves_by_its_decay():
    made = update_ema({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, 0.9)
    np.testing.assert_allclose(made["w"], 0.1, rtol=1e-5)

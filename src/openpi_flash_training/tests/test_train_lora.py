"""Adapters train as openpi's do: what is frozen, in which type, and to which numbers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from micro import micro_shape
from openpi_reference import DATA, counted, flat, leaves_of, norms, observation, recorded, tiny_tree
from test_train_flow import CONSTANT, COSINE, squared_errors
from tiny_batch import tiny_params

from openpi_flash_models.checkpoints.lora import merge_lora
from openpi_flash_training.train.initialize import init_params
from openpi_flash_training.train.lora import (
    Adapters,
    LoraSettings,
    add_adapters,
    join,
    narrow_frozen,
    split,
    trainable,
)
from openpi_flash_training.train.losses import LossSettings, loss
from openpi_flash_training.train.optimizer import make_optimizer

LORA = LoraSettings(Adapters(4, 4.0), Adapters(8, 8.0))
FROZEN = json.loads((DATA / "frozen_leaves.json").read_text())
KINDS = {"tiny-pi0": "pi0", "tiny-pi05": "pi05", "tiny-fast": "pi0_fast"}


@pytest.mark.parametrize("name", FROZEN)
def test_openpis_leaves_are_frozen(name):
    model, *variants = name.split()
    adapters = [Adapters(4, 4.0) if variant.endswith("_lora") else None for variant in variants]
    lora = LoraSettings(adapters[0], adapters[1] if len(adapters) > 1 else None)
    if lora == LoraSettings(None, None):
        lora = None
    shape = micro_shape(KINDS[model])
    params = jax.eval_shape(lambda key: init_params(shape, key), jax.random.key(0))
    if lora is not None:
        params = jax.eval_shape(lambda tree: add_adapters(tree, lora, jax.random.key(0)), params)
    mask = flat(trainable(params, lora))
    assert sorted(path for path, kept in mask.items() if not kept) == FROZEN[name]


@functools.cache
def gradient(lora):
    def mean(trained, frozen, given):
        errors = squared_errors(join(trained, frozen), given, lora=lora)
        return errors.mean(), errors

    return jax.jit(jax.value_and_grad(mean, has_aux=True))


@pytest.fixture(scope="module")
def given():
    return recorded("training_lora")


@pytest.fixture(scope="module")
def batch():
    arrays = recorded("training_pi05")
    return {name: arrays[name] for name in ("actions", "noise", "time")}


@pytest.mark.parametrize(("name", "settings"), [("f32", CONSTANT), ("frozen_bf16", COSINE)])
def test_three_steps_with_adapters_are_openpis(name, settings, given, batch):
    params, _ = tiny_tree("lora")
    mask = trainable(params, LORA)
    if name == "frozen_bf16":
        params = narrow_frozen(params, mask)
    trained, frozen = split(params, mask)
    names = given["trainable_names"].tolist()
    assert sorted(flat(trained)) == sorted(names)
    used = counted(names)
    trained = jax.tree.map(jnp.asarray, trained)
    optimizer = make_optimizer(settings, mask)
    state = optimizer.init(trained)
    assert len(jax.tree.leaves(state[1][0].mu)) == len(names) == 51
    for step in range(3):
        (mean, errors), made = gradient(LORA)(trained, frozen, batch)
        if step == 0:
            np.testing.assert_allclose(errors, given[f"{name}/loss"], atol=1e-5)
            for leaf, expected in leaves_of(given, f"{name}/grad/0").items():
                np.testing.assert_allclose(flat(made)[leaf], expected, atol=1e-5, err_msg=leaf)
        np.testing.assert_allclose(mean, given[f"{name}/loss_steps"][step], rtol=2e-5)
        norm = optax.tree.norm(made)
        np.testing.assert_allclose(norm, given[f"{name}/global_norm"][step], rtol=1e-4)
        found, expected = norms(made, names), given[f"{name}/grad_norm"][step]
        np.testing.assert_allclose(found[used], expected[used], rtol=1e-4, atol=1e-6)
        changes, state = jax.jit(optimizer.update)(made, state, trained)
        trained = optax.apply_updates(trained, changes)
    expected = given[f"{name}/param_norm/3"]
    np.testing.assert_allclose(norms(trained, names)[used], expected[used], rtol=1e-4)
    for leaf, expected in leaves_of(given, f"{name}/param/3").items():
        np.testing.assert_allclose(flat(trained)[leaf], expected, atol=1e-4, err_msg=leaf)
    dtypes = {leaf.dtype.name for leaf in flat(frozen).values()}
    assert dtypes == {"bfloat16" if name == "frozen_bf16" else "float32"}
    assert {leaf.dtype.name for leaf in flat(trained).values()} == {"float32"}


@pytest.mark.parametrize(
    "lora",
    [LoraSettings(Adapters(4, 8.0), Adapters(8, 4.0)), LoraSettings(None, Adapters(8, 8.0, True))],
    ids=["alpha", "stabilised"],
)
def test_training_sees_the_weights_that_serving_merges(lora, batch):
    """The scaling of `merge_lora`, which openpi's actions have been compared with."""
    from openpi_flash_models.checkpoints.lora import LoraScaling

    params, _ = tiny_tree("lora")
    language = 1.0 if lora.language is None else lora.language.scale
    scaling = LoraScaling(language=language, expert=lora.expert.scale)
    paths = {tuple(path.split("/")): leaf for path, leaf in flat(params).items()}
    merged = {"/".join(path): leaf for path, leaf in merge_lora(paths, "tiny", scaling).items()}
    ours = jax.jit(functools.partial(squared_errors, lora=lora))(params, batch)
    theirs = jax.jit(squared_errors)(nested(merged), batch)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def nested(leaves):
    tree = {}
    for path, leaf in leaves.items():
        *branches, last = path.split("/")
        branch = tree
        for key in branches:
            branch = branch.setdefault(key, {})
        branch[last] = leaf
    return tree


def test_new_adapters_have_openpis_distribution_and_change_the_model():
    params = tiny_params()
    adapted = jax.jit(lambda key: add_adapters(params, LORA, key))(jax.random.key(1))
    new = {path: leaf for path, leaf in flat(adapted).items() if "lora_" in path}
    assert len(new) == 20
    llm = "PaliGemma/llm/layers"
    assert new[f"{llm}/attn/kv_einsum/lora_a"].shape == (2, 2, 1, 16, 4)
    assert new[f"{llm}/attn/attn_vec_einsum_1/lora_b"].shape == (2, 4, 8, 8)
    assert new[f"{llm}/mlp_1/gating_einsum_lora_b"].shape == (2, 2, 8, 16)
    values = np.concatenate([leaf.ravel() for leaf in new.values()])
    np.testing.assert_allclose([values.mean(), values.std()], [0, 0.01], atol=5e-4)
    for path, leaf in flat(params).items():
        np.testing.assert_array_equal(flat(adapted)[path], leaf)


def test_adapters_without_their_scale_are_refused():
    params, shape = tiny_tree("lora")
    batch = observation("pi05")
    with pytest.raises(ValueError, match="hold adapters, the settings have no lora"):
        loss(params, batch, jax.random.key(0), settings=LossSettings(shape))


def test_split_trees_join_to_the_whole():
    params, _ = tiny_tree("lora")
    trained, frozen = split(params, trainable(params, LORA))
    assert not set(flat(trained)) & set(flat(frozen))
    whole = flat(join(trained, frozen))
    assert whole.keys() == flat(params).keys()
    assert all(whole[path] is leaf for path, leaf in flat(params).items())

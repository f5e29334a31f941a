"""An action model and a planner of one checkpoint keep one copy of what they have in common."""

import gc
import os
import shutil

import jax
import numpy as np
import pytest

from openpi_flash_models.demo.checkpoint import write_demo_checkpoint
from openpi_flash_models.load import load_planner, load_policy
from openpi_flash_models.policy.action_policy import ModelPolicy

CONFIG = "pi05_sim_arm"
COMMON = ("vision", "embedding", "language")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    write_demo_checkpoint(folder)
    return folder / "action"


def weights_of(model):
    """Of a policy or a planner."""
    return (model._actions.model if isinstance(model, ModelPolicy) else model._model).weights


def arrays_on_the_device():
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


def size_of(weights):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(weights))


@pytest.mark.parametrize("action_first", [True, False])
def test_the_second_model_takes_what_the_first_has_placed(checkpoint, action_first):
    before = arrays_on_the_device()
    first, second = (
        (load_policy(CONFIG, checkpoint), load_planner(checkpoint))
        if action_first
        else (load_planner(checkpoint), load_policy(CONFIG, checkpoint))
    )
    for part in COMMON:
        ours, theirs = weights_of(first)[part], weights_of(second)[part]
        assert all(map(lambda a, b: a is b, jax.tree.leaves(ours), jax.tree.leaves(theirs)))
    policy = first if action_first else second
    whole = size_of(weights_of(policy))
    # the planner's head: rows of the embedding
    head = size_of(weights_of(policy)["embedding"])
    assert arrays_on_the_device() - before < whole + 1.1 * head


def test_what_nobody_holds_any_more_is_freed(checkpoint):
    before = arrays_on_the_device()
    policy, planner = load_policy(CONFIG, checkpoint), load_planner(checkpoint)
    kept = weights_of(planner)["embedding"]
    del policy
    gc.collect()
    assert weights_of(planner)["embedding"] is kept
    assert not kept.is_deleted()
    del planner, kept
    assert arrays_on_the_device() <= before


@pytest.mark.parametrize("difference", ["dtype", "copy", "changed"])
def test_models_that_differ_share_nothing(checkpoint, tmp_path, difference):
    policy = load_policy(CONFIG, checkpoint)
    other, dtype = checkpoint, None
    if difference == "dtype":
        dtype = "bfloat16"
    else:
        other = tmp_path / "other"
        shutil.copytree(checkpoint, other)
    if difference == "changed":
        # in place, where no sampled byte need differ: a fine-tune of a few tensors
        planner = load_planner(other)
        file = max((other / "params").rglob("*"), key=lambda path: path.stat().st_size)
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
        again = load_planner(other)
        assert weights_of(again)["embedding"] is not weights_of(planner)["embedding"]
        return
    planner = load_planner(other, dtype=dtype)
    assert weights_of(planner)["embedding"] is not weights_of(policy)["embedding"]
    np.testing.assert_allclose(
        np.asarray(weights_of(planner)["embedding"], np.float32),
        np.asarray(weights_of(policy)["embedding"], np.float32),
        rtol=0.01,
    )

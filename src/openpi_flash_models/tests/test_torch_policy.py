"""A policy gives the same actions in PyTorch as in JAX."""

import shutil

import numpy as np
import pytest

from openpi_flash_models.load import load_policy
from openpi_flash_models.policy import InferenceControls
from openpi_flash_models.rtc import RtcControls

pytest.importorskip("torch", reason="needs the torch extra")


@pytest.fixture(scope="module")
def policies(data, tiny_checkpoint, tmp_path_factory):
    """The same small LIBERO policy, by framework."""
    directory = tmp_path_factory.mktemp("libero")
    shutil.copytree(tiny_checkpoint / "params", directory / "params")
    shutil.copy(data / "paligemma_tokenizer.model", directory)
    assets = directory / "assets/physical-intelligence/libero"
    assets.mkdir(parents=True)
    shutil.copy(data / "policy_libero_norm_stats.json", assets / "norm_stats.json")
    return {
        framework: load_policy("pi05_libero", directory, framework=framework, dtype="float32")
        for framework in ("jax", "pytorch")
    }


@pytest.fixture(scope="module")
def observation(data):
    recorded = dict(np.load(data / "policy_libero.npz"))
    return {key[4:]: value for key, value in recorded.items() if key.startswith("obs/")}


def test_both_frameworks_give_the_same_actions(policies, observation):
    controls = InferenceControls(seed=3)
    jax, torch = (policies[name].infer(observation, controls).actions for name in policies)
    np.testing.assert_allclose(torch, jax, rtol=0, atol=1e-4 * np.abs(jax).max())


def test_both_frameworks_continue_a_chunk_alike(policies, observation):
    before = policies["jax"].infer(observation, InferenceControls(seed=1)).actions
    rtc = RtcControls(previous_actions=before[2:], delay=2)
    controls = InferenceControls(seed=3, rtc=rtc)
    jax, torch = (policies[name].infer(observation, controls).actions for name in policies)
    np.testing.assert_allclose(torch, jax, rtol=0, atol=1e-4 * np.abs(jax).max())

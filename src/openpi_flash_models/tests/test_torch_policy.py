"""A policy gives the same actions in PyTorch as in JAX."""

import re
import shutil

import jax
import numpy as np
import pytest

from openpi_flash_models.actions.rtc import RtcControls
from openpi_flash_models.load import load_policy
from openpi_flash_models.policy.policy_protocol import InferenceControls

pytest.importorskip("torch", reason="needs the torch extra")


@pytest.fixture(scope="module")
def checkpoint(data, tiny_checkpoint, tmp_path_factory):
    """A small LIBERO policy."""
    directory = tmp_path_factory.mktemp("libero")
    shutil.copytree(tiny_checkpoint / "params", directory / "params")
    shutil.copy(data / "paligemma_tokenizer.model", directory)
    assets = directory / "assets/physical-intelligence/libero"
    assets.mkdir(parents=True)
    shutil.copy(data / "policy_libero_norm_stats.json", assets / "norm_stats.json")
    return directory


@pytest.fixture(scope="module")
def policies(checkpoint):
    """The same policy, by framework."""
    return {
        framework: load_policy("pi05_libero", checkpoint, framework=framework, dtype="float32")
        for framework in ("jax", "pytorch")
    }


@pytest.fixture(scope="module")
def observation(data):
    recorded = dict(np.load(data / "policy_libero.npz"))
    return {key[4:]: value for key, value in recorded.items() if key.startswith("obs/")}


def test_both_frameworks_give_the_same_actions(policies, observation):
    controls = InferenceControls(seed=3)
    expected, actions = (policies[name].infer(observation, controls).actions for name in policies)
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_both_frameworks_continue_a_chunk_alike(policies, observation):
    before = policies["jax"].infer(observation, InferenceControls(seed=1)).actions
    rtc = RtcControls(previous_actions=before[2:], delay=2)
    controls = InferenceControls(seed=3, rtc=rtc)
    expected, actions = (policies[name].infer(observation, controls).actions for name in policies)
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_jax_is_not_woken_up_beside_pytorch(checkpoint, observation, monkeypatch, caplog):
    """It would take three quarters of a GPU's memory."""

    def wake(*_):
        raise AssertionError("JAX looks for its devices")

    monkeypatch.setattr(jax, "default_backend", wake)
    monkeypatch.setattr(jax, "devices", wake)
    with caplog.at_level("INFO", logger="openpi_flash_models"):
        policy = load_policy("pi05_libero", checkpoint, framework="pytorch")
    # what "auto" has chosen
    assert re.fullmatch(
        r"the action model computes with PyTorch on the (cpu in float32|cuda in bfloat16)",
        caplog.messages[0],
    )
    policy.infer(observation, InferenceControls(seed=1))

"""Compiled layers change nothing but the time that a call takes."""

import shutil

import numpy as np
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.model.shape import check_tree

torch = pytest.importorskip("torch", reason="needs the torch extra")

from openpi_flash_models.torch_models.flow import Observation  # noqa: E402
from openpi_flash_models.torch_models.from_tree import build_flow_model  # noqa: E402
from openpi_flash_models.torch_models.sampler import (  # noqa: E402
    COMPILE_MODE_VARIABLE,
    COMPILE_MODES,
    Sampler,
    compile_mode,
)


def small_observation():
    generator = torch.Generator().manual_seed(0)
    return Observation(
        images=torch.randint(0, 256, (1, 1, 224, 224, 3), generator=generator, dtype=torch.uint8),
        image_mask=torch.ones(1, 1, dtype=torch.bool),
        tokens=torch.randint(0, 2048, (1, 8), generator=generator),
        token_mask=torch.ones(1, 8, dtype=torch.bool),
        state=torch.zeros(1, 32),
    ), torch.randn(1, 10, 32, generator=generator)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
@pytest.mark.timeout(600)
def test_compiled_layers_give_the_eager_actions(tiny_leaves):
    leaves = tiny_leaves("pi05")
    tree, shape = orbax.nest(leaves)["params"], check_tree(leaves, "pi05")
    observation, noise = small_observation()
    eager, compiled = (
        Sampler(build_flow_model(tree, shape), mode).sample_actions(observation, noise, 3)
        for mode in ("none", "default")
    )
    np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=0, atol=1e-5)


def test_a_cpu_runs_eagerly_and_a_gpu_in_one_graph_until_told_otherwise(monkeypatch):
    monkeypatch.delenv(COMPILE_MODE_VARIABLE, raising=False)
    assert compile_mode(torch.device("cpu")) == "none"
    assert compile_mode(torch.device("cuda")) == "reduce-overhead"
    monkeypatch.setenv(COMPILE_MODE_VARIABLE, "default")
    assert compile_mode(torch.device("cpu")) == "default"
    assert compile_mode(torch.device("cuda"), "none") == "none"


def test_an_unknown_mode_is_an_error_that_names_the_known_ones(monkeypatch):
    monkeypatch.setenv(COMPILE_MODE_VARIABLE, "fastest")
    with pytest.raises(InferenceConfigError, match="fastest") as raised:
        compile_mode(torch.device("cpu"))
    assert all(mode in str(raised.value) for mode in COMPILE_MODES)

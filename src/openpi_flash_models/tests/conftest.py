"""Shared test data: a small pi0.5 whose outputs openpi itself computed (see data/README.md)."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.inputs import CAMERAS, ModelInputs

DATA = Path(__file__).parent / "data"
TINY = DATA / "tiny_pi05"


@pytest.fixture(scope="session")
def data():
    return DATA


@pytest.fixture(scope="session")
def tiny_checkpoint():
    return TINY


def tiny_params(dtype):
    leaves = orbax.read_leaves(TINY / "params", dtype=dtype)
    return jax.tree.map(jnp.asarray, orbax.nest(leaves)["params"])


@pytest.fixture(scope="session")
def params_float32():
    return tiny_params("float32")


@pytest.fixture(scope="session")
def params_bfloat16():
    return tiny_params("bfloat16")


@pytest.fixture(scope="session")
def tiny_arrays():
    return dict(np.load(DATA / "tiny_pi05_inputs.npz"))


@pytest.fixture(scope="session")
def tiny_inputs(tiny_arrays):
    """The two observations openpi was run on; its pictures were drawn from this generator."""
    generator = np.random.default_rng(11)
    shape = (2, 224, 224, 3)
    images = [generator.uniform(-1, 1, shape).astype(np.float32) for _ in CAMERAS]
    return ModelInputs(
        images=np.stack(images, axis=1),
        image_mask=np.stack([tiny_arrays[f"image_mask/{name}"] for name in CAMERAS], axis=1),
        tokens=tiny_arrays["tokenized_prompt"],
        token_mask=tiny_arrays["tokenized_prompt_mask"],
    )


@pytest.fixture(scope="session")
def tiny_outputs():
    return dict(np.load(DATA / "tiny_pi05_outputs.npz"))

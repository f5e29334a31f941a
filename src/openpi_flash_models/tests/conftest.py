"""Shared test data: a small pi0.5 whose outputs openpi itself computed (see data/README.md)."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import ml_dtypes
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


def read_tiny_leaves(name):
    """The tensors of one small model: those of pi0.5, and a file of what is not the same."""
    leaves = orbax.read_leaves(TINY / "params")
    if name == "pi05":
        return leaves
    own = {tuple(k.split("/")): v for k, v in np.load(DATA / f"tiny_{name}_leaves.npz").items()}
    if name == "lora_trained":  # frozen leaves were cast to bfloat16 and stayed what they were
        return {path: leaf.astype(ml_dtypes.bfloat16) for path, leaf in leaves.items()} | own
    if name == "lora":
        return leaves | own
    both = leaves | own
    return {path: both[path] for path in both if _is_of(name, path)}


def _is_of(model, path):
    if model == "pi0":
        return not path[1].startswith("time_mlp") and ("img" in path or "Dense_0" not in path)
    expert_1 = any(part.endswith("_1") for part in path if part != "LayerNorm_1")
    return path[1] == "PaliGemma" and ("img" in path or not expert_1)


def params_of(leaves, dtype):
    cast = {path: leaf.astype(orbax.DTYPES[dtype]) for path, leaf in leaves.items()}
    return jax.tree.map(jnp.asarray, orbax.nest(cast)["params"])


@pytest.fixture(scope="session")
def as_params():
    return params_of


@pytest.fixture(scope="session")
def tiny_leaves():
    """Function of a name (pi05, pi0, pi0_fast, lora, lora_trained) to leaves by path."""
    return read_tiny_leaves


@pytest.fixture(scope="session")
def params_float32():
    return params_of(read_tiny_leaves("pi05"), "float32")


@pytest.fixture(scope="session")
def params_bfloat16():
    return params_of(read_tiny_leaves("pi05"), "bfloat16")


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

"""Shared test data: a small pi0.5 whose outputs openpi itself computed (see data/README.md)."""

import functools
import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from micro import micro_shape, random_leaves

from openpi_flash_models.actions.rtc import no_guidance
from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.jax_models import flow
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.weights import lay_out
from openpi_flash_models.model.inputs import CAMERAS, ModelInputs
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_models.model.shape import check_tree

DATA = Path(__file__).parent / "data"
TINY = DATA / "tiny_pi05"
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")


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


class Model(NamedTuple):
    """A small model as tests use it."""

    arch: Arch
    weights: dict

    def act(self, inputs, noise, steps=10, *, guidance=None, method="identity", beta=5.0):
        if guidance is None:
            guidance = no_guidance(*noise.shape)
        return np.asarray(
            flow.sample_actions(
                self.arch,
                self.weights,
                inputs,
                noise=noise,
                num_steps=jnp.int32(steps),
                guidance=guidance,
                max_guidance=jnp.float32(beta),
                method=method,
            )
        )


def build_model(leaves, dtype="float32", options=ALL_ON, quantization=None):
    shape = check_tree(leaves, "tiny")
    cast = {path: leaf.astype(orbax.DTYPES[dtype]) for path, leaf in leaves.items()}
    return Model(
        Arch(shape, options.graph),
        lay_out(orbax.nest(cast)["params"], shape, options.layout, quantization=quantization),
    )


@pytest.fixture(scope="session")
def build():
    """Function of leaves, dtype, graph options and quantization to a small model."""
    return build_model


@functools.cache
def micro_leaves(kind, seed=0):
    return random_leaves(micro_shape(kind), seed)


@functools.cache
def micro_model(kind, options=ALL_ON):
    return build_model(micro_leaves(kind), "float32", options)


@pytest.fixture(scope="session")
def micro():
    """Function of a kind and graph options to the smallest model there is."""
    return micro_model


@functools.cache
def tiny_model(name, dtype="float32", options=ALL_ON, quantization=None):
    return build_model(read_tiny_leaves(name), dtype, options, quantization)


@pytest.fixture(scope="session")
def model():
    """Function of a name, dtype, graph options and quantization to that small model."""
    return tiny_model


@pytest.fixture(scope="session")
def tiny_leaves():
    """Function of a name (pi05, pi0, pi0_fast, lora, lora_trained) to leaves by path."""
    return read_tiny_leaves


class Recorded(NamedTuple):
    """What openpi was run on, and what came out."""

    arrays: dict
    inputs: ModelInputs
    outputs: dict

    @property
    def noise(self):
        return self.arrays["noise"]


@functools.cache
def read_recorded(name):
    arrays = dict(np.load(DATA / f"tiny_{name}_inputs.npz"))
    cameras = FAST_CAMERAS if name == "pi0_fast" else CAMERAS
    # openpi's pictures were drawn from this generator
    generator = np.random.default_rng(11)
    shape = (2, 224, 224, 3)
    images = [generator.uniform(-1, 1, shape).astype(np.float32) for _ in cameras]
    inputs = ModelInputs(
        images=np.stack(images, axis=1),
        image_mask=np.stack([arrays[f"image_mask/{camera}"] for camera in cameras], axis=1),
        tokens=arrays["tokenized_prompt"],
        token_mask=arrays["tokenized_prompt_mask"],
        state=arrays["state"] if name == "pi0" else None,
    )
    return Recorded(arrays, inputs, dict(np.load(DATA / f"tiny_{name}_outputs.npz")))


@pytest.fixture(scope="session")
def openpi():
    """Function of a name to what openpi computed of that small model."""
    return read_recorded

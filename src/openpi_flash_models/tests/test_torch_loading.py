"""A PyTorch model is filled layer by layer: a tree and a model are never in memory together."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.checkpoints.safetensors import write_safetensors
from openpi_flash_models.load import read_tree
from openpi_flash_models.model.shape import ModelShape, expected_shapes

torch = pytest.importorskip("torch", reason="needs the torch extra")

from openpi_flash_models.torch_models.from_tree import build_flow_model  # noqa: E402

# The shares of feed-forward layers and embedding are those of a real model.
SHAPE = ModelShape(
    kind="pi05",
    patch=14,
    vision_width=128,
    vision_depth=2,
    vision_heads=2,
    vision_mlp=256,
    width=512,
    depth=6,
    mlp=4096,
    heads=8,
    key_heads=1,
    head_width=64,
    vocabulary=16_000,
    expert_width=128,
    expert_mlp=512,
    action_dim=32,
)

# Nearly all of it is in three leaves, of which whole ones could not be read without much more.
DEEP = dataclasses.replace(SHAPE, depth=24, heads=1, mlp=1024, vocabulary=50_000)

MEASURE = """
import sys
from pathlib import Path
import torch
from openpi_flash_models.load import read_tree
from openpi_flash_models.torch_models.from_tree import build_flow_model
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
# what torch loads once, for a model of any size
with torch.device("meta"):
    torch.nn.Linear(2, 2)(torch.zeros(2)).t()
torch.zeros(2, 3, dtype=torch.bfloat16).t().copy_(torch.zeros(3, 2))
before = peak()
tree, shape = read_tree(Path(sys.argv[1]), kind="pi05", dtype="float32", lazy=True)
model = build_flow_model(tree, shape)
print(peak() - before, sum(p.numel() * p.element_size() for p in model.parameters()))
"""


def random_leaves(shape):
    generator = np.random.default_rng(0)
    return {
        tuple(name.split("/")): generator.standard_normal(size, np.float32)
        for name, size in expected_shapes(shape).items()
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["orbax", "safetensors"])
@pytest.mark.parametrize("shape", [SHAPE, DEEP], ids=["real", "deep"])
def test_loading_peaks_at_little_more_than_the_model(kind, shape, tmp_path):
    if kind == "orbax":
        orbax.write_leaves(tmp_path / "params", random_leaves(shape))
    else:
        write_safetensors(tmp_path / "model.safetensors", random_leaves(shape))
    # glibc gives the layers of a real model back to the system as soon as they are free; tell it
    # to do so with small ones
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"},
        capture_output=True,
        text=True,
        check=True,
    )
    peak, size = map(int, done.stdout.split())
    assert size > 190e6
    # leaves that are read whole, and mapped pages that are kept, cost more than that
    assert peak <= 1.08 * size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_leaves_in_their_file_make_the_model_of_leaves_in_memory(dtype, tiny_checkpoint):
    as_torch = getattr(torch, dtype)
    tree, shape = read_tree(tiny_checkpoint, kind="pi05", dtype="float32")
    lazy, _ = read_tree(tiny_checkpoint, kind="pi05", lazy=True)
    expected = build_flow_model(tree, shape, dtype=as_torch).state_dict()
    got = build_flow_model(lazy, shape, dtype=as_torch).state_dict()
    assert got.keys() == expected.keys()
    for name, tensor in got.items():
        assert torch.equal(tensor, expected[name]), name

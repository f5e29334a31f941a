"""What the PyTorch models launch on a GPU is counted without one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("triton", reason="needs PyTorch with Triton")

MODELS = Path(__file__).parents[3] / "benchmarks/models"
LAYERS, HORIZON, CAMERAS, SLOTS = 2, 50, 3, 96

# in a process of its own: Triton keeps the GPU that it was told of
COUNT = """
import dataclasses, json, sys
sys.path[:0] = [sys.argv[1]]
from torch_program import TARGETS, Case, trace
made = trace(Case(cameras=3, slots=96, layers=2), TARGETS["h200"])
of = lambda kernels: [[k.kind, k.bytes, k.operations] for k in kernels]
print(json.dumps({"step": of(made.step), "prefix": of(made.prefix),
                  "shape": dataclasses.asdict(made.case.shape)}))
"""


@pytest.fixture(scope="module")
def counted():
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(MODELS)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=600,
    )
    return json.loads(done.stdout.splitlines()[-1])


def kinds(kernels):
    return [kind for kind, _, _ in kernels]


def test_a_step_launches_eleven_kernels_a_layer_and_few_between(counted):
    step = kinds(counted["step"])
    assert step.count("attention") == LAYERS
    assert step.count("triton") <= 6 * LAYERS
    products = [kind for kind in step if kind not in ("attention", "triton", "eager")]
    assert len(products) == 4 * LAYERS
    assert all("mm" in kind for kind in products)
    assert step.count("eager") <= 12


def test_its_products_are_those_of_the_formulas(counted):
    s = counted["shape"]
    heads, key_heads, width = s["heads"], s["key_heads"], s["head_width"]
    expert, mlp = s["expert_width"], s["expert_mlp"]
    layer = expert * (heads + 2 * key_heads) * width + heads * width * expert + 3 * expert * mlp
    slots = CAMERAS * 256 + SLOTS + HORIZON
    attention = 4 * HORIZON * heads * width * slots
    ends = 2 * HORIZON * 2 * s["action_dim"] * expert
    wanted = LAYERS * (2 * HORIZON * layer + attention) + ends
    assert sum(operations for _, _, operations in counted["step"]) == wanted


def test_a_step_reads_the_weights_of_its_layers_once(counted):
    s = counted["shape"]
    width = s["head_width"] * (s["heads"] + 2 * s["key_heads"])
    layer = s["expert_width"] * (width + s["heads"] * s["head_width"] + 3 * s["expert_mlp"])
    weights = 2 * LAYERS * layer
    moved = sum(moved for _, moved, _ in counted["step"])
    assert weights < moved < 1.3 * weights


def test_the_prefix_is_compiled_too(counted):
    prefix = kinds(counted["prefix"])
    # the last layer of the language model is there for its keys and values alone
    assert prefix.count("attention") == LAYERS + LAYERS - 1
    assert prefix.count("triton") >= 3 * LAYERS

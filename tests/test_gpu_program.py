"""What a GPU's program launches, moves and computes is read from its text; compiled where it can be."""  # noqa: E501

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[1] / "benchmarks" / "models"

HLO = """HloModule jit_call, is_scheduled=true

%product (p0: bf16[8,64], p1: bf16[64,32]) -> bf16[8,32] {
  %p0 = bf16[8,64]{1,0} parameter(0)
  %p1 = bf16[64,32]{1,0} parameter(1)
  ROOT %dot = bf16[8,32]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%taken (p2: bf16[1000,64], p3: s32[]) -> bf16[1,64] {
  %p2 = bf16[1000,64]{1,0} parameter(0)
  %p3 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = bf16[1,64]{1,0} dynamic-slice(%p2, %p3, %zero), dynamic_slice_sizes={1,64}
}

%put (p4: bf16[1000,64], p5: bf16[1,64], p6: s32[]) -> bf16[1000,64] {
  %p4 = bf16[1000,64]{1,0} parameter(0)
  %p5 = bf16[1,64]{1,0} parameter(1)
  %p6 = s32[] parameter(2)
  %none = s32[] constant(0)
  ROOT %update = bf16[1000,64]{1,0} dynamic-update-slice(%p4, %p5, %p6, %none)
}

%body (state: (s32[], bf16[8,32])) -> (s32[], bf16[8,32]) {
  %state = (s32[], bf16[8,32]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = bf16[8,32]{1,0} get-tuple-element(%state), index=1
  %next = bf16[8,32]{1,0} negate(%x)
  ROOT %both = (s32[], bf16[8,32]{1,0}) tuple(%i, %next)
}

ENTRY %main (a: bf16[8,64], w: bf16[64,32], table: bf16[1000,64], i: s32[]) -> bf16[8,32] {
  %a = bf16[8,64]{1,0} parameter(0)
  %w = bf16[64,32]{1,0} parameter(1)
  %table = bf16[1000,64]{1,0} parameter(2)
  %i.1 = s32[] parameter(3)
  %row = bf16[1,64]{1,0} fusion(%table, %i.1), kind=kLoop, calls=%taken
  %kept = bf16[1000,64]{1,0} fusion(%table, %row, %i.1), kind=kLoop, calls=%put
  %made = bf16[8,32]{1,0} fusion(%a, %w), kind=kCustom, calls=%product, backend_config={"kind":"__triton_gemm"}
  %start = (s32[], /*index=1*/bf16[8,32]{1,0}) tuple(%i.1, %made)
  %ten = (s32[], bf16[8,32]{1,0}) while(%start), condition=%body, body=%body, backend_config={"known_trip_count":{"n":"10"}}
  %some = (s32[], bf16[8,32]{1,0}) while(%ten), condition=%body, body=%body
  ROOT %out = bf16[8,32]{1,0} get-tuple-element(%some), index=1
}
"""  # noqa: E501


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    sys.path.insert(0, str(MODELS))
    yield
    sys.path.remove(str(MODELS))


@pytest.fixture
def block():
    from gpu_hlo import read

    return read(HLO)


def test_every_launch_is_a_kernel_and_what_only_renames_is_none(block):
    assert [kernel.name for kernel in block.kernels] == ["row", "kept", "made"]
    assert [kernel.kind for kernel in block.kernels] == ["kLoop", "kLoop", "__triton_gemm"]


def test_a_kernel_reads_what_it_takes_and_writes_what_it_changes(block):
    row, kept, made = block.kernels
    # the index comes with it
    assert (row.bytes_read, row.bytes_written) == (64 * 2 + 4, 64 * 2)
    assert kept.bytes_written == 64 * 2
    assert kept.bytes_read == 64 * 2 + 4
    assert made.bytes == (8 * 64 + 64 * 32 + 8 * 32) * 2


def test_products_are_counted_with_their_dtypes(block):
    (product,) = block.kernels[2].products
    assert product.operations == 2 * 8 * 64 * 32
    assert (product.left, product.right, product.result) == ("bf16", "bf16", "bf16")


def test_loops_run_as_often_as_they_say_or_as_one_is_told(block):
    assert [length for _, length in block.loops] == [10, None]
    launched = sum(count for _, count in block.turns((4,)))
    assert launched == 3 + 10 + 4
    # a loop of unknown length asks before its first turn and after each
    assert block.round_trips((4,)) == 5


def test_what_is_no_hlo_is_refused():
    from gpu_hlo import read

    with pytest.raises(ValueError, match="no line that begins with ENTRY"):
        read("hello")


def test_an_estimate_is_the_longest_of_launch_bytes_and_operations():
    from gpu_estimate import kernel_seconds, totals
    from gpu_hlo import Block, Kernel, Product
    from gpu_targets import LAUNCH_S, TARGETS

    gpu = TARGETS["h200"]
    small = Kernel("a", "kLoop", (), (), 8, 8)
    wide = dataclasses.replace(small, bytes_read=10**9)
    product = Product("bf16", "bf16", "f32", 10**12)
    dense = dataclasses.replace(small, products=(product,))
    assert kernel_seconds(small, gpu) == LAUNCH_S
    assert kernel_seconds(wide, gpu) == pytest.approx(1e9 / gpu.bandwidth)
    assert kernel_seconds(dense, gpu) == pytest.approx(1e12 / gpu.rate)
    # a third of the cores have a third of the rate
    narrow = dataclasses.replace(dense, programs=gpu.cores // 3)
    assert kernel_seconds(narrow, gpu) == pytest.approx(3 * kernel_seconds(dense, gpu))
    made = totals(Block((small,), ((Block((wide,)), 3),)), gpu)
    assert (made.kernels, made.bytes) == (4, 16 + 3 * wide.bytes)


def test_graphs_are_those_of_the_list_of_thunks():
    jax = pytest.importorskip("jax")
    del jax
    from gpu_program import in_graphs

    thunks = """000: kCommandBuffer [source | next=003 (1)]
    001: kCustomKernel [source | sink] a grid: [1, 1, 1]
    002: kWhile [source | sink]
  body:
    003: kCustomKernel [source | sink] b grid: [1, 1, 1]
004: kCopy [prev=000 (1) | sink] kCopy
"""
    assert in_graphs(thunks) == (1, 1)


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason='needs `pip install "jax[cuda13]"`, 4 GB; scripts/test-versions gpu has it',
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("weights", [None, "float8", "int8"])
def test_a_call_of_two_layers_is_one_graph_of_few_kernels(weights):
    from gpu_program import CASES, compile_for
    from gpu_targets import TARGETS

    made = compile_for(TARGETS["h200"], dataclasses.replace(CASES[0], layers=2, weights=weights))
    assert (made.graphs, made.outside, made.round_trips) == (1, 0, 0)
    # five kernels a layer and one that joins attention's parts; the rest is in front and behind
    assert made.turn.kernels <= 2 * 6 + 12
    # of eight-bit weights XLA scales some columns in kernels of their own
    assert made.before.kernels <= (50 if weights is None else 60)
    assert made.products()["bf16 x bf16"] > 0.99 * sum(made.products().values())

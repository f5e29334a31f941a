"""Weights of eight bits: what they take, how far actions move, and where they cannot be had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from micro import micro_shape, random_leaves

from openpi_flash_models import load
from openpi_flash_models.actions.rtc import no_guidance
from openpi_flash_models.checkpoints import check
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.jax_models import decode, flow, gemma
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.fused_projection import Norm, add_product, normed_product
from openpi_flash_models.jax_models.quantized import Quantized, quantize
from openpi_flash_models.jax_models.weights import WITHOUT_ACTIONS, abstract_weights, lay_out
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.precision import QUANTIZATIONS, Precision, precision_of
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_models.model.shape import named_shape

ERROR = {"float8": 0.05, "int8": 0.015}
"""Of the largest action: what quantized weights of the reference models may change."""


def random(seed, *size):
    return jax.random.normal(jax.random.key(seed), size)


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_each_column_has_a_scale_of_its_own(kind):
    """A column of small numbers keeps its precision beside one of large numbers."""
    weight = random(0, 64, 3) * jnp.array([1e-4, 1.0, 0.0])
    made = quantize(weight, kind, (0,))
    assert made.values.dtype.itemsize == 1
    largest = jnp.abs(weight).max(axis=0)
    # half a step: of float8 at most 1/16 of a number, of int8 1/254 of the column's largest
    bound = jnp.abs(weight) / 16 + largest / 448 if kind == "float8" else largest / 253
    assert (jnp.abs(made.values.astype(jnp.float32) * made.scale - weight) <= bound).all()


@pytest.mark.parametrize("kind", QUANTIZATIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_and_rows_are_those_of_the_numbers_that_are_stored(kind, dtype):
    x, weight = random(0, 5, 64).astype(dtype), random(1, 64, 32).astype(dtype)
    kernel, table = quantize(weight, kind, (0,)), quantize(weight, kind, (1,))
    near = {"float32": 1e-5, "bfloat16": 1e-2}[dtype]
    wide = x.astype(jnp.float32) @ (kernel.values.astype(jnp.float32) * kernel.scale)
    assert (x @ kernel).dtype == x.dtype
    np.testing.assert_allclose((x @ kernel).astype(jnp.float32), wide, atol=near * 40)
    rows = table.values.astype(jnp.float32) * table.scale
    ids = jnp.array([[3, 0]])
    assert table[ids].dtype == jnp.dtype(dtype)
    np.testing.assert_allclose(table[ids].astype(jnp.float32), rows[ids], rtol=near)
    logits = table.T.sums(x[:, :32])
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, x[:, :32].astype(jnp.float32) @ rows.T, atol=near * 40)


@pytest.mark.parametrize("name", ["pi0", "pi05"])
@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_actions_are_close_to_openpis(name, kind, model, openpi):
    given = openpi(name)
    expected = given.outputs["float32/actions_10"]
    actions = model(name, quantization=kind).act(given.inputs, given.noise, 10)
    error = np.abs(actions - expected).max() / np.abs(expected).max()
    assert error < ERROR[kind]
    # it would be rounding, were the weights not quantized
    assert error > 1e-4


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_the_released_model_takes_half_of_the_memory(kind):
    def gigabytes(quantization):
        shape = named_shape("pi05")
        weights = abstract_weights(shape, ALL_ON.layout, "bfloat16", quantization)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(weights)) / 1e9

    assert gigabytes(None) == pytest.approx(6.7, abs=0.1)
    # norms' modulation stays bfloat16, 0.23 GB
    assert gigabytes(kind) / gigabytes(None) < 0.53


def test_what_is_on_the_device_is_the_eight_bit_weights(model):
    def size(tiny):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tiny.weights))

    narrow = model("pi05", quantization="int8")
    assert size(narrow) < 0.5 * size(model("pi05"))  # a quarter, and what is small
    for layer in narrow.weights["language"]["layers"]:
        for part in ("qkv", "out", "gate_up", "down"):
            assert isinstance(layer[part], Quantized)
    table = narrow.weights["embedding"]
    assert isinstance(table, Quantized)
    assert table.scale.shape == (narrow.arch.shape.vocabulary, 1)


def test_the_graph_without_unrolled_layers_gives_the_same_actions(model, openpi):
    given = openpi("pi05")
    unrolled = model("pi05", quantization="float8")
    stacked = model("pi05", "float32", ALL_ON.switched(unroll_layers=False), "float8")
    usual, actions = (tiny.act(given.inputs, given.noise, 2) for tiny in (unrolled, stacked))
    np.testing.assert_allclose(actions, usual, atol=1e-5)


def test_projections_that_are_not_fused_are_refused():
    shape = micro_shape("pi05")
    layout = ALL_ON.switched(fuse_projections=False).layout
    with pytest.raises(InferenceConfigError, match="int8 needs fuse_projections"):
        lay_out(nest(random_leaves(shape))["params"], shape, layout, quantization="int8")


def test_pytorch_refuses_them(tiny_checkpoint, monkeypatch):
    """The check of a configuration says what loading says."""
    for module in (load, check):
        monkeypatch.setattr(module, "choose_framework", lambda *_: "pytorch")
    with pytest.raises(InferenceConfigError, match="dtype: float8 is for JAX only") as refused:
        load.load_policy("pi05_droid", tiny_checkpoint, dtype="float8")
    found = check.check_policy_checkpoint("pi05_droid", str(tiny_checkpoint), dtype="float8")
    assert str(refused.value) in [finding.text for finding in found]


def test_a_dtype_is_what_layers_compute_in_and_what_weights_are():
    assert precision_of(None, "bfloat16") == Precision("bfloat16")
    assert precision_of("float32", "bfloat16") == Precision("float32")
    assert precision_of("int8", "bfloat16") == Precision("bfloat16", "int8")


# the fused kernels, by Pallas' interpreter


def test_fused_products_scale_their_columns():
    kind = "int8"
    x, table = random(1, 5, 48), random(2, 2, 1, 3 * 48)
    norm = Norm(table, jnp.full(1, 1, jnp.int32))
    weight = quantize(random(3, 48, 32), kind, (0,))
    back = quantize(random(4, 16, 48), kind, (0,))
    normed, gate = gemma.norm(x, {}, table[1])
    made = normed_product(x, norm, weight, gated=False, interpret=True)
    np.testing.assert_allclose(made, normed @ weight, rtol=1e-4, atol=1e-3)
    gate_, up = jnp.split(normed @ weight, 2, axis=-1)
    branch = jax.nn.gelu(gate_, approximate=True) * up
    made = normed_product(x, norm, weight, gated=True, interpret=True)
    np.testing.assert_allclose(made, branch, rtol=1e-4, atol=1e-2)
    made = add_product(x, branch, back, norm, interpret=True)
    np.testing.assert_allclose(made, x + (branch @ back) * gate, rtol=1e-4, atol=1e-2)


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    return ModelInputs(
        images=generator.integers(0, 256, (1, 1, 224, 224, 3)).astype(np.uint8),
        image_mask=np.ones((1, 1), bool),
        tokens=generator.integers(3, 60, (1, 6)).astype(np.int32),
        token_mask=np.ones((1, 6), bool),
        state=generator.normal(size=(1, 4)).astype(np.float32),
    )


def test_a_whole_call_by_the_fused_kernels_gives_the_same_actions(inputs):
    shape = micro_shape("pi05", head_width=32, heads=2)
    tree = nest(random_leaves(shape))["params"]
    weights = lay_out(tree, shape, ALL_ON.layout, quantization="float8")
    noise = np.random.default_rng(1).normal(size=(1, 6, 4)).astype(np.float32)

    def act(kernels):
        arch = Arch(shape, ALL_ON.graph, kernels=kernels)
        return flow.sample_actions(
            arch,
            weights,
            inputs,
            noise=noise,
            num_steps=None,
            schedule=flow.make_schedule(arch, weights, 2),
            guidance=no_guidance(*noise.shape),
            max_guidance=jnp.float32(5),
        )

    plain = act(None)
    np.testing.assert_allclose(act("interpret"), plain, atol=2e-5 * np.abs(plain).max())


def test_a_text_is_decoded_with_a_cut_head(inputs):
    """Logits stay float32, and the head keeps eight bits when it is cut."""
    shape = micro_shape("pi0_fast")
    tree = nest(random_leaves(shape))["params"]
    weights = lay_out(tree, shape, ALL_ON.layout, quantization="int8", parts=WITHOUT_ACTIONS)
    allowed = jnp.arange(shape.vocabulary) % 2 == 0
    head = decode.cut_head(weights, allowed)
    assert isinstance(head.rows, Quantized)
    assert head.rows.values.dtype.itemsize == 1
    arch = Arch(shape, ALL_ON.graph)
    said = decode.decode(arch, weights, head, inputs, jnp.int32(1), max_tokens=3)
    hidden, _ = jax.jit(decode.read_prefix, static_argnums=(0, 3))(arch, weights, inputs, 3)
    table = weights["embedding"]
    rows = table.values.astype(jnp.float32) * table.scale
    expected = jnp.flatnonzero(allowed)[jnp.argmax(hidden @ rows[allowed].T)]
    assert said[0, 0] == expected

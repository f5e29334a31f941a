"""Every exact rearrangement changes nothing beyond rounding, and saves what it is for."""

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from micro import micro_shape, random_leaves

from openpi_flash_models.actions.rtc import no_guidance
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.jax_models import decode, flow
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.flops import call_flops, count
from openpi_flash_models.jax_models.models import JaxActionModel, JaxModel
from openpi_flash_models.jax_models.weights import abstract_weights
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.packing import bucket_of, fill_batch, join, pack, take_rows
from openpi_flash_models.model.rearrangements import ALL_OFF, ALL_ON, SWITCHES
from openpi_flash_models.model.shape import named_shape

SWITCH_NAMES = sorted(SWITCHES - {"token_buckets"})
ROUNDING = 2e-6
# test_fused_kernels.py and test_static_steps.py have the last two
ELSEWHERE = ("drop_padding", "uint8_images", "fused_kernels", "static_steps")
IN_THE_GRAPH = [name for name in SWITCH_NAMES if name not in ELSEWHERE]


@pytest.fixture(scope="module")
def inputs():
    """Two rows: one has two cameras and eight words, one three cameras and twelve."""
    generator = np.random.default_rng(0)
    return ModelInputs(
        images=generator.integers(0, 256, (2, 3, 224, 224, 3)).astype(np.uint8),
        image_mask=np.array([[True, False, True], [True, True, True]]),
        tokens=generator.integers(3, 60, (2, 20)).astype(np.int32),
        token_mask=np.arange(20)[None] < np.array([[8], [12]]),
        state=generator.normal(size=(2, 4)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(1).normal(size=(2, 6, 4)).astype(np.float32)


SWITCHED = [
    *(("pi05", name) for name in IN_THE_GRAPH),
    ("pi0", "modulate_once"),
    ("pi0", "static_cache"),
]


def switches_of(options):
    return {
        name: value for part in dataclasses.asdict(options).values() for name, value in part.items()
    }


def operations(kind, options, inputs, noise):
    """How often each operation is in the program of a call, by its name and the result's shape."""
    shape = micro_shape(kind)
    arch = Arch(shape, options.graph)
    weights = abstract_weights(shape, options.layout, "float32")

    def call(weights):
        return flow.sample_actions(
            arch,
            weights,
            inputs,
            noise=noise,
            num_steps=jnp.int32(3),
            guidance=no_guidance(*noise.shape),
            max_guidance=jnp.float32(5),
            method="identity",
        )

    found = Counter()

    def look(program):
        for equation in program.eqns:
            shapes = tuple(variable.aval.shape for variable in equation.outvars)
            found[equation.primitive.name, shapes] += 1
            for value in jax.tree.leaves(list(equation.params.values())):
                inside = getattr(value, "jaxpr", value)
                if hasattr(inside, "eqns"):
                    look(inside)

    look(jax.make_jaxpr(call)(weights).jaxpr)
    return found


@pytest.mark.parametrize(("kind", "switch"), SWITCHED)
def test_a_switch_changes_the_program(kind, switch, inputs, noise):
    """A switch that nothing reads would pass the comparison of results below."""
    on = operations(kind, ALL_ON, inputs, noise)
    off = operations(kind, ALL_ON.switched(**{switch: False}), inputs, noise)
    assert sum(on.values()) > 100
    assert on != off
    assert on == operations(kind, ALL_ON, inputs, noise)


def test_padding_is_cut_only_where_the_switch_says_so():
    shape = micro_shape("pi05")
    tree = nest(random_leaves(shape))["params"]
    kept = ALL_ON.switched(drop_padding=False)
    assert JaxModel(tree, shape, ALL_ON).token_buckets == ALL_ON.packing.token_buckets
    assert JaxModel(tree, shape, kept).token_buckets is None


@pytest.mark.parametrize(("kind", "switch"), SWITCHED)
def test_a_switch_changes_nothing_beyond_rounding(kind, switch, micro, inputs, noise):
    assert switches_of(ALL_ON)[switch]
    without = ALL_ON.switched(**{switch: False})
    off = micro(kind, without).act(inputs, noise, 3)
    on = micro(kind).act(inputs, noise, 3)
    np.testing.assert_allclose(on, off, rtol=0, atol=ROUNDING * np.abs(off).max())


def test_every_switch_is_off_in_the_plain_model():
    off, on = switches_of(ALL_OFF), switches_of(ALL_ON)
    assert not any(off[name] for name in SWITCH_NAMES)
    assert all(on[name] for name in SWITCH_NAMES)


def test_bytes_and_floats_are_the_same_pictures(micro, inputs, noise):
    model = micro("pi05")
    wide = inputs.images.astype(np.float32) / 255.0 * 2.0 - 1.0
    floats = model.act(dataclasses.replace(inputs, images=wide), noise, 3)
    bytes_ = model.act(inputs, noise, 3)
    np.testing.assert_allclose(bytes_, floats, rtol=0, atol=ROUNDING * np.abs(floats).max())


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_what_is_masked_may_be_left_out(kind, micro, inputs, noise):
    model = micro(kind)
    whole = model.act(inputs, noise, 3)
    for row in (0, 1):
        alone = take_rows(inputs, np.array([row]))
        packed = pack(alone, (16,))
        assert packed.tokens.shape == (1, 16)
        assert packed.images.shape[1] == (2, 3)[row]
        actions = model.act(packed, noise[row : row + 1], 3)
        np.testing.assert_allclose(actions[0], whole[row], rtol=0, atol=1e-5)


def test_fast_says_the_same_without_padding(micro, inputs):
    arch, weights = micro("pi0_fast")

    def say(batch):
        head = decode.whole_head(weights)
        tokens = decode.decode(
            arch, weights, head, batch, jnp.int32(1), max_tokens=5, skipped_positions=1
        )
        return np.asarray(tokens)

    np.testing.assert_array_equal(say(inputs), say(pack(inputs, (16,))))


def test_packing_keeps_the_order_of_the_cameras():
    images = np.arange(3, dtype=np.uint8).reshape(1, 3, 1, 1, 1) * np.ones(
        (1, 3, 2, 2, 3), np.uint8
    )
    inputs = ModelInputs(
        images=images,
        image_mask=np.array([[False, True, True]]),
        tokens=np.zeros((1, 9), np.int32),
        token_mask=np.arange(9)[None] < 3,
    )
    packed = pack(inputs, (4, 8))
    assert packed.images[0, :, 0, 0, 0].tolist() == [1, 2]
    assert packed.image_mask.tolist() == [[True, True]]
    assert packed.tokens.shape == (1, 4)


def test_buckets_round_up_and_end_at_the_models_own_length():
    assert [bucket_of(n, (32, 96), 200) for n in (1, 32, 33, 96, 97, 200)] == [
        32,
        32,
        96,
        96,
        200,
        200,
    ]
    assert bucket_of(20, (32, 96), 48) == 32
    assert bucket_of(40, (32, 96), 48) == 48


def test_a_batch_is_filled_up_with_its_last_row():
    assert fill_batch(3).tolist() == [0, 1, 2, 2]
    assert fill_batch(8).tolist() == list(range(8))
    with pytest.raises(ValueError, match="1 to 8 rows, got 9"):
        fill_batch(9)


def test_a_batch_gives_each_row_what_it_gets_alone(micro, inputs, noise):
    model = micro("pi05")
    rows = [take_rows(inputs, np.array([row])) for row in (0, 1)]
    both = model.act(join(rows), noise, 3)
    for row in (0, 1):
        alone = model.act(rows[row], noise[row : row + 1], 3)
        np.testing.assert_allclose(both[row], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("as_bytes", "dtype"), [(True, np.uint8), (False, np.float32)])
def test_images_stay_bytes_until_the_device_unless_told_otherwise(
    as_bytes, dtype, inputs, noise, monkeypatch
):
    given = []

    def watched(arch, weights, inputs, **rest):
        given.append(inputs.images)
        return jnp.asarray(rest["noise"])

    monkeypatch.setattr(flow, "sample_actions", watched)
    options = ALL_ON.switched(uint8_images=as_bytes)
    shape = micro_shape("pi05")
    tree = nest(random_leaves(shape))["params"]
    model = JaxActionModel(tree, shape, options)
    model.sample(inputs, noise, 3, no_guidance(*noise.shape))
    (images,) = given
    assert images.dtype == dtype
    as_floats = inputs.images / np.float32(127.5) - 1
    wanted = inputs.images if as_bytes else as_floats
    np.testing.assert_allclose(images, wanted, atol=1e-6)


def test_products_are_counted_with_the_lengths_of_loops():
    def looped(x):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, None, length=3)[0]

    assert count(looped, jnp.zeros((4, 4))) == 3 * 2 * 4**3


@pytest.mark.parametrize("kind", ["pi05", "pi0"])
def test_two_cameras_and_thirty_words_take_little_of_the_padded_graph(kind):
    """At real size. openpi's graph has three cameras and every prompt slot."""
    shape, slots = named_shape(kind), {"pi05": 200, "pi0": 48}[kind]
    padded = call_flops(shape, ALL_OFF, cameras=3, prompt_slots=slots)
    length = bucket_of(30, ALL_ON.packing.token_buckets, slots)
    ours = call_flops(shape, ALL_ON, cameras=2, prompt_slots=length)
    assert length == 32
    low, high = {"pi05": (4.5e12, 5.5e12), "pi0": (3.2e12, 4.4e12)}[kind]
    assert low < padded.total < high
    assert ours.total <= {"pi05": 0.60, "pi0": 0.68}[kind] * padded.total

"""The fused kernels compute what the plain code does: the GPU's code, run on a CPU."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from micro import micro_shape, random_leaves

from openpi_flash_models.actions.rtc import no_guidance
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.jax_models import decode, flow, gemma, siglip
from openpi_flash_models.jax_models.arch import Arch, kernels_of_device
from openpi_flash_models.jax_models.fused_attention import (
    Rotation,
    Seen,
    attend,
    attend_images,
    rotate_and_attend,
)
from openpi_flash_models.jax_models.fused_projection import Norm, add_product, normed_product
from openpi_flash_models.jax_models.weights import lay_out
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_ON

ROUNDING = 5e-6
# head width 32 is the smallest that the kernels take
SIZES = {"head_width": 32, "heads": 2}


def random(seed, *size):
    return jax.random.normal(jax.random.key(seed), size)


@pytest.fixture(scope="module")
def tokens():
    """Projections of two rows of three tokens, with two heads, and their rotation."""
    positions = jnp.arange(3)[None] + jnp.array([[50], [3]])
    angles = gemma._angles(positions, 32)
    return random(0, 2, 3, 4, 32), positions, Rotation(jnp.cos(angles), jnp.sin(angles))


def seen(seed, count, share):
    valid = jax.random.bernoulli(jax.random.key(seed), share, (2, count))
    return Seen(random(seed + 1, 2, count, 32), random(seed + 2, 2, count, 32), valid)


def plain(tokens, groups, *, has_own):
    projected, positions, _ = tokens
    query = gemma.rope(projected[:, :, :2], positions) * 32**-0.5
    blocks = [
        (gemma.KeyValues(g.keys[:, :, None], g.values[:, :, None]), g.valid[:, None])
        for g in groups
    ]
    own = gemma._own(projected, positions)
    if has_own:
        blocks.append((own, jnp.ones((1, 1, 3), bool)))
    return gemma.attention(query, blocks).reshape(2, 3, -1), own.keys[:, :, 0]


def test_own_and_earlier_tokens_are_attended_to(tokens):
    """The first group is so long that it is dealt out to several programs."""
    groups = [seen(1, 300, 0.6), seen(4, 1, 1.0)]
    # one of the parts has no valid key at all
    groups[0] = groups[0]._replace(valid=groups[0].valid.at[:, 160:].set(False))
    made, keys = rotate_and_attend(tokens[0], tokens[2], groups, interpret=True)
    expected, own_keys = plain(tokens, groups, has_own=True)
    np.testing.assert_allclose(made, expected, atol=ROUNDING)
    np.testing.assert_allclose(keys, own_keys, atol=ROUNDING)


def test_groups_alone_are_attended_to(tokens):
    groups = [seen(1, 40, 0.6)]
    made = attend(tokens[0], tokens[2], groups, interpret=True)
    np.testing.assert_allclose(made, plain(tokens, groups, has_own=False)[0], atol=ROUNDING)


def test_patches_attend_to_their_image():
    projected, root = random(5, 2, 20, 3, 2, 12), jnp.float32(12) ** 0.5
    weights = jnp.einsum("npah,nqah->napq", projected[:, :, 0] / root, projected[:, :, 1])
    expected = jnp.einsum("napq,nqah->npah", jax.nn.softmax(weights), projected[:, :, 2])
    made = attend_images(projected, root, interpret=True)
    np.testing.assert_allclose(made, expected, atol=ROUNDING)


@pytest.mark.parametrize("rows", [1, 5], ids=["one-for-all", "each-its-own"])
def test_products_are_those_of_an_adaptive_norm(rows):
    """The scale, shift and gate are for all rows, or each row has its own."""
    x, table = random(1, 5, 48), random(2, 2, rows, 3 * 48)
    weight, back = random(3, 48, 32), random(4, 16, 48)
    norm = Norm(table, jnp.full(1, 1, jnp.int32))
    normed, gate = gemma.norm(x, {}, table[1])
    made = normed_product(x, norm, weight, gated=False, interpret=True)
    np.testing.assert_allclose(made, normed @ weight, rtol=1e-4, atol=1e-4)
    gate_, up = jnp.split(normed @ weight, 2, axis=-1)
    branch = jax.nn.gelu(gate_, approximate=True) * up
    made = normed_product(x, norm, weight, gated=True, interpret=True)
    np.testing.assert_allclose(made, branch, rtol=1e-4, atol=1e-3)
    made = add_product(x, branch, back, norm, interpret=True)
    np.testing.assert_allclose(made, x + (branch @ back) * gate, rtol=1e-4, atol=1e-2)


def test_products_are_those_of_a_plain_norm():
    x, scale, weight = random(1, 2, 48), random(2, 48), random(3, 48, 16)
    norm = Norm(scale[None, None], jnp.zeros(1, jnp.int32))
    normed, _ = gemma.norm(x, {"scale": scale}, None)
    made = normed_product(x, norm, weight, gated=False, interpret=True)
    np.testing.assert_allclose(made, normed @ weight, rtol=1e-4, atol=1e-4)
    branch, back = random(4, 2, 16), random(5, 16, 48)
    made = add_product(x, branch, back, norm, interpret=True)
    np.testing.assert_allclose(made, x + branch @ back, rtol=1e-4, atol=1e-4)


def test_centred_squares_are_the_same_norm():
    x, params = random(1, 3, 48) + 2, {"scale": random(2, 48), "bias": random(3, 48)}
    both = [siglip.layer_norm(x, params, centred=centred) for centred in (False, True)]
    np.testing.assert_allclose(*both, atol=2e-5)


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    return ModelInputs(
        images=generator.integers(0, 256, (2, 1, 224, 224, 3)).astype(np.uint8),
        image_mask=np.ones((2, 1), bool),
        tokens=generator.integers(3, 60, (2, 6)).astype(np.int32),
        token_mask=np.arange(6)[None] < np.array([[4], [6]]),
        state=generator.normal(size=(2, 4)).astype(np.float32),
    )


def built(kind):
    shape = micro_shape(kind, **SIZES)
    return shape, lay_out(nest(random_leaves(shape))["params"], shape, ALL_ON.layout)


@pytest.mark.parametrize(
    ("kind", "method"), [("pi05", "identity"), ("pi05", "prefix"), ("pi0", "identity")]
)
def test_a_whole_call_gives_the_same_actions(kind, method, inputs):
    shape, weights = built(kind)
    noise = np.random.default_rng(1).normal(size=(2, 6, 4)).astype(np.float32)
    guidance = no_guidance(*noise.shape)
    guidance = dataclasses.replace(guidance, frozen=np.arange(6)[None].repeat(2, 0) < 2)

    def act(kernels):
        arch = Arch(shape, ALL_ON.graph, kernels=kernels)
        return flow.sample_actions(
            arch,
            weights,
            inputs,
            noise=noise,
            num_steps=None,
            schedule=flow.make_schedule(arch, weights, 2),
            guidance=guidance,
            max_guidance=jnp.float32(5),
            method=method,
        )

    off = act(None)
    np.testing.assert_allclose(act("interpret"), off, atol=2e-5 * np.abs(off).max())


def test_a_text_is_the_same(inputs):
    shape, weights = built("pi0_fast")

    def say(kernels):
        arch, head = Arch(shape, ALL_ON.graph, kernels=kernels), decode.whole_head(weights)
        return decode.decode(arch, weights, head, inputs, jnp.int32(1), max_tokens=3)

    np.testing.assert_array_equal(say("interpret"), say(None))


def test_kernels_are_for_bfloat16_on_a_gpu():
    shape = micro_shape("pi05")
    assert kernels_of_device() is None, "tests run on a CPU"
    assert Arch(shape, ALL_ON.graph, kernels="triton").uses_kernels(jnp.bfloat16)
    assert not Arch(shape, ALL_ON.graph, kernels="triton").uses_kernels(jnp.float32)
    assert not Arch(shape, ALL_ON.graph).uses_kernels(jnp.bfloat16)

"""Our pi0, pi0.5 and pi0-FAST in JAX give openpi's numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openpi_flash_models.actions.rtc import no_guidance
from openpi_flash_models.jax_models import decode, flow, prefix, suffix
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.weights import abstract_weights, struct
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_OFF, ALL_ON
from openpi_flash_models.model.shape import named_shape

FLOAT32_TOLERANCE = 1e-5
BFLOAT16_TOLERANCE = 3e-2  # of the largest action
FLOW_MODELS = ("pi0", "pi05")


@pytest.mark.parametrize("options", [ALL_ON, ALL_OFF], ids=["default", "plain"])
@pytest.mark.parametrize("name", FLOW_MODELS)
def test_float32_actions_equal_openpis(name, options, model, openpi):
    given, tiny = openpi(name), model(name, "float32", options)
    for steps in (1, 2, 10):
        actions = tiny.act(given.inputs, given.noise, steps)
        expected = given.outputs[f"float32/actions_{steps}"]
        np.testing.assert_allclose(actions, expected, rtol=0, atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("name", FLOW_MODELS)
def test_bfloat16_actions_are_close_to_openpis(name, model, openpi):
    given, tiny = openpi(name), model(name, "bfloat16")
    for steps in (1, 2, 10):
        actions = tiny.act(given.inputs, given.noise, steps)
        assert actions.dtype == np.float32
        expected = given.outputs[f"bfloat16/actions_{steps}"]
        largest = np.abs(expected).max()
        np.testing.assert_allclose(actions, expected, rtol=0, atol=BFLOAT16_TOLERANCE * largest)


@pytest.mark.parametrize("name", FLOW_MODELS)
def test_arrays_inside_the_model_equal_openpis(name, model, openpi):
    given, (arch, weights) = openpi(name), model(name)

    def expected(array):
        return given.outputs[f"float32/t0.7/{array}"]

    tokens, valid = jax.jit(prefix.embed_prefix, static_argnums=0)(arch, weights, given.inputs)
    wanted = jnp.tile(jnp.arange(0, tokens.shape[1], 16), (2, 1))
    hidden, read = jax.jit(prefix.run_prefix, static_argnums=0)(
        arch, weights, tokens, valid, wanted
    )
    seen = np.asarray(valid)[:, ::16]  # what stands in padding rows means nothing
    for part, array in (("keys", "k"), ("values", "v")):
        ours = np.stack([np.asarray(getattr(layer, part)) for layer in read.cache])[:, :, ::16]
        want = expected(f"{array}/every_16th")
        np.testing.assert_allclose(ours[:, seen], want[:, seen], atol=1e-4)
    if name == "pi05":
        np.testing.assert_array_equal(valid, expected("prefix_mask"))
        np.testing.assert_allclose(tokens[:, ::16], expected("prefix_tokens/every_16th"), atol=2e-5)
        want = expected("prefix_out/every_16th")
        np.testing.assert_allclose(np.asarray(hidden)[seen], want[seen], atol=2e-5)
        condition = suffix.embed_time(weights["heads"], jnp.full(2, 0.7))
        np.testing.assert_allclose(condition, expected("adarms"), atol=1e-6)

    def flow_at(time):
        context = suffix.context_of(arch, weights, read, given.inputs.state)
        now = suffix.at_time(suffix.time_features(arch, weights, time), 0)
        return suffix.velocity(arch, weights, context, jnp.asarray(given.noise), now)

    # float32 knows the phases of the time's sines to 1e-4 only, and this time is no step's
    np.testing.assert_allclose(
        jax.jit(flow_at)(jnp.array([0.7])), expected("v_t"), rtol=0, atol=1e-4
    )


def fast_logits(arch, weights, inputs, tokens):
    """Logits [M, B, V] before each of ``tokens`` [B, M], given those that come before it."""
    head = decode.whole_head(weights)
    hidden, state = decode.read_prefix(arch, weights, inputs, tokens.shape[1])
    state = state._replace(position=state.position + 1)
    slots = state.seen.shape[1] - tokens.shape[1]
    step = jax.jit(decode.decode_step, static_argnums=0)
    logits = []
    for place, token in enumerate(jnp.asarray(tokens).T):
        logits.append(decode.logits(head, hidden))
        hidden, state = step(arch, weights, state, token, jnp.int32(slots + place))
    return np.stack(logits)


def generate(arch, weights, inputs, eos=1):
    head = decode.whole_head(weights)
    tokens = decode.decode(
        arch, weights, head, inputs, jnp.int32(eos), max_tokens=16, skipped_positions=1
    )
    return np.asarray(tokens)


def test_fast_tokens_equal_openpis_in_float32(model, openpi):
    given, (arch, weights) = openpi("pi0_fast"), model("pi0_fast", "float32")
    expected = given.outputs["float32/tokens_no_eos"].astype(int)
    np.testing.assert_array_equal(generate(arch, weights, given.inputs), expected)
    stopped = generate(arch, weights, given.inputs, int(given.outputs["float32/eos_as"]))
    wanted = given.outputs["float32/tokens_row0_stop_at_eos_as"]
    np.testing.assert_array_equal(stopped[:1], wanted)


def test_fast_tokens_are_openpis_or_tie_with_them_in_bfloat16(model, openpi):
    """How a processor adds up a matrix product decides which of two near ties is larger."""
    given, (arch, weights) = openpi("pi0_fast"), model("pi0_fast", "bfloat16")
    expected = given.outputs["bfloat16/tokens_no_eos"].astype(int)
    logits = fast_logits(arch, weights, given.inputs, expected)
    best = logits.max(axis=-1, keepdims=True)
    # the distance of two neighbouring bfloat16 numbers as large as the largest logit
    spacing = 2.0 ** (np.floor(np.log2(np.abs(logits).max(axis=-1, keepdims=True))) - 7)
    # two logits, each of them rounded here and in openpi
    ties = best - logits <= 4 * spacing
    assert np.take_along_axis(ties, expected.T[..., None], axis=-1).all()
    assert ties.sum(axis=-1).max() <= 3, "of 2048 tokens, so that a wrong one fails"
    got = generate(arch, weights, given.inputs)
    eos = int(got[0, 3])
    end = got[0].tolist().index(eos) + 1
    stopped = generate(arch, weights, given.inputs, eos)[0]
    np.testing.assert_array_equal(stopped[:end], got[0, :end])
    assert not stopped[end:].any()


def test_the_first_logits_of_fast_equal_openpis(model, openpi):
    given, (arch, weights) = openpi("pi0_fast"), model("pi0_fast")
    hidden, _ = jax.jit(prefix.read_last, static_argnums=0)(arch, weights, given.inputs)
    logits = decode.logits(decode.whole_head(weights), hidden)
    np.testing.assert_allclose(logits, given.outputs["float32/prefill_last_logits"], atol=1e-4)


def test_uint8_images_are_scaled_to_minus_one_to_one():
    levels = jnp.asarray([0, 51, 255], jnp.uint8)
    np.testing.assert_allclose(prefix.scale_images(levels), [-1.0, -0.6, 1.0], atol=1e-7)


@pytest.mark.parametrize("kind", ["pi0", "pi05", "pi0_fast"])
def test_the_released_widths_fit_together(kind):
    """At full width and one layer; nothing is computed."""
    shape = dataclasses.replace(named_shape(kind), depth=1, vision_depth=1)
    arch = Arch(shape, ALL_ON.graph)
    weights = abstract_weights(shape, ALL_ON.layout, "bfloat16")
    inputs = ModelInputs(
        images=struct((2, 3, 224, 224, 3), np.uint8),
        image_mask=struct((2, 3), bool),
        tokens=struct((2, 96), np.int32),
        token_mask=struct((2, 96), bool),
        state=struct((2, 32), np.float32),
    )
    if kind == "pi0_fast":

        def say(weights, inputs):
            head = decode.whole_head(weights)
            return decode.decode(arch, weights, head, inputs, jnp.int32(1), max_tokens=256)

        assert jax.eval_shape(say, weights, inputs).shape == (2, 256)
        return

    def act(weights, inputs, noise):
        return flow.sample_actions(
            arch,
            weights,
            inputs,
            noise=noise,
            num_steps=jnp.int32(10),
            guidance=no_guidance(2, 50, 32),
            max_guidance=jnp.float32(5),
        )

    actions = jax.eval_shape(act, weights, inputs, struct((2, 50, 32), np.float32))
    assert (actions.shape, actions.dtype) == ((2, 50, 32), np.float32)

"""Our pi0.5 gives openpi's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openpi_flash_models.inputs import ModelInputs
from openpi_flash_models.jax_models import gemma, pi05

FLOAT32_TOLERANCE = 1e-5
BFLOAT16_TOLERANCE = 3e-2  # of the largest action


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_float32_actions_equal_openpis(
    steps, params_float32, tiny_inputs, tiny_arrays, tiny_outputs
):
    actions = pi05.sample_actions(
        params_float32, tiny_inputs, tiny_arrays["noise"], jnp.int32(steps)
    )
    np.testing.assert_allclose(
        actions, tiny_outputs[f"float32/actions_{steps}"], rtol=0, atol=FLOAT32_TOLERANCE
    )


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_bfloat16_actions_are_close_to_openpis(
    steps, params_bfloat16, tiny_inputs, tiny_arrays, tiny_outputs
):
    actions = pi05.sample_actions(
        params_bfloat16, tiny_inputs, tiny_arrays["noise"], jnp.int32(steps)
    )
    assert actions.dtype == jnp.float32
    expected = tiny_outputs[f"bfloat16/actions_{steps}"]
    largest = np.abs(expected).max()
    np.testing.assert_allclose(actions, expected, rtol=0, atol=BFLOAT16_TOLERANCE * largest)


def test_arrays_inside_the_model_equal_openpis(
    params_float32, tiny_inputs, tiny_arrays, tiny_outputs
):
    def expected(name):
        return tiny_outputs[f"float32/t0.7/{name}"]

    tokens, valid = jax.jit(pi05.embed_prefix)(params_float32, tiny_inputs)
    np.testing.assert_array_equal(valid, expected("prefix_mask"))
    np.testing.assert_allclose(tokens[:, ::16], expected("prefix_tokens/every_16th"), atol=2e-5)

    wanted = jnp.tile(jnp.arange(0, tokens.shape[1], 16), (2, 1))
    hidden, prefix = jax.jit(pi05.run_prefix)(params_float32, tokens, valid, wanted)
    seen = np.asarray(valid)[:, ::16]  # what stands in padding rows means nothing
    for ours, name in ((prefix.cache.keys, "k"), (prefix.cache.values, "v")):
        got, want = np.asarray(ours)[:, :, ::16], expected(f"{name}/every_16th")
        np.testing.assert_allclose(got[:, seen], want[:, seen], atol=1e-4)
    got, want = np.asarray(hidden), expected("prefix_out/every_16th")
    np.testing.assert_allclose(got[seen], want[seen], atol=2e-5)

    time = jnp.full((2,), 0.7, jnp.float32)
    np.testing.assert_allclose(pi05.embed_time(params_float32, time), expected("adarms"), atol=1e-6)
    flow = jax.jit(pi05.velocity)(params_float32, prefix, jnp.asarray(tiny_arrays["noise"]), time)
    np.testing.assert_allclose(flow, expected("v_t"), atol=FLOAT32_TOLERANCE)


def test_a_prefix_of_which_little_is_read_leaves_the_keys_of_one_read_whole(
    params_float32, tiny_inputs
):
    tokens, valid = pi05.embed_prefix(params_float32, tiny_inputs)
    tokens, valid = tokens[:, ::4], valid[:, ::4]
    positions = jnp.cumsum(valid, axis=1) - 1
    mask = valid[:, :, None] & valid[:, None, :]
    expert = gemma.select_expert(params_float32["PaliGemma"]["llm"], 0)
    whole, cache = gemma.run_layers(expert, tokens, positions, mask)
    for wanted in (
        jnp.zeros((2, 0), jnp.int32),
        jnp.array([[5], [0]]),
        jnp.array([[1, 9], [3, 3]]),
    ):
        some, same = gemma.read_layers(expert, tokens, positions, mask, wanted)
        expected = jnp.take_along_axis(whole, wanted[:, :, None], axis=1)
        np.testing.assert_allclose(some, expected, atol=1e-5)
        for got, want in zip(same, cache, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_masked_camera_and_prompt_padding_may_be_left_out(
    params_float32, tiny_inputs, tiny_arrays, tiny_outputs
):
    row = slice(0, 1)  # its third camera is masked
    length = int(tiny_inputs.token_mask[0].sum())
    compact = ModelInputs(
        images=tiny_inputs.images[row, :2],
        image_mask=tiny_inputs.image_mask[row, :2],
        tokens=tiny_inputs.tokens[row, :length],
        token_mask=tiny_inputs.token_mask[row, :length],
    )
    actions = pi05.sample_actions(params_float32, compact, tiny_arrays["noise"][row], jnp.int32(10))
    np.testing.assert_allclose(
        actions, tiny_outputs["float32/actions_10"][row], atol=FLOAT32_TOLERANCE
    )


def test_uint8_images_are_scaled_to_minus_one_to_one():
    levels = jnp.asarray([0, 51, 255], jnp.uint8)
    np.testing.assert_allclose(pi05.scale_images(levels), [-1.0, -0.6, 1.0], atol=1e-7)

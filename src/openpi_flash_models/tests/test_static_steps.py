"""The usual number of steps has a program of its own, which gives the same actions."""

import jax
import jax.numpy as jnp
import numpy as np
from micro import micro_shape, random_leaves

from openpi_flash_models.actions.rtc import no_guidance
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.jax_models import flow
from openpi_flash_models.jax_models.models import JaxActionModel
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS

INPUTS = ModelInputs(
    images=np.zeros((1, 1, 224, 224, 3), np.uint8),
    image_mask=np.ones((1, 1), bool),
    tokens=np.full((1, 4), 5, np.int32),
    token_mask=np.ones((1, 4), bool),
    state=np.zeros((1, 4), np.float32),
)
NOISE = np.random.default_rng(1).normal(size=(1, 6, 4)).astype(np.float32)


def model(**switches):
    shape = micro_shape("pi05")
    return JaxActionModel(nest(random_leaves(shape))["params"], shape, ALL_ON.switched(**switches))


def programs():
    return flow.sample_actions._cache_size()


def test_the_usual_number_of_steps_gives_the_same_actions():
    static, loop = model(), model(static_steps=False)
    guidance = no_guidance(*NOISE.shape)
    made = static.sample(INPUTS, NOISE, DEFAULT_STEPS, guidance)
    expected = loop.sample(INPUTS, NOISE, DEFAULT_STEPS, guidance)
    np.testing.assert_allclose(made, expected, atol=2e-6 * np.abs(expected).max())
    assert static.prepares_other_steps
    assert not loop.prepares_other_steps


def test_other_numbers_share_a_program():
    static = model()
    guidance = no_guidance(*NOISE.shape)
    static.sample(INPUTS, NOISE, DEFAULT_STEPS + 1, guidance)
    before = programs()
    static.sample(INPUTS, NOISE, 3, guidance)
    assert programs() == before


def test_times_are_summed_as_openpi_does():
    made, time = [], np.float32(1)
    for _ in range(10):
        made.append(time)
        time = time + np.float32(-1) / np.float32(10)
    np.testing.assert_array_equal(flow._times(10), np.array(made, np.float32))


def test_this_jax_knows_the_options_of_one_graph():
    assert jax.jit(lambda x: x + 1, compiler_options=flow.ONE_GRAPH)(jnp.float32(1)) == 2

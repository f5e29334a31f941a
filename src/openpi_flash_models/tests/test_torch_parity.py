"""Our pi0 and pi0.5 in PyTorch give openpi's numbers, and those of our own in JAX."""

import numpy as np
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.model.shape import check_tree, named_shape

torch = pytest.importorskip("torch", reason="needs the torch extra")

from openpi_flash_models.torch_models.denoise import sample_actions  # noqa: E402
from openpi_flash_models.torch_models.flow import (  # noqa: E402
    SCHEDULES_KEPT,
    FlowModel,
    Observation,
    flow_times,
)
from openpi_flash_models.torch_models.from_tree import build_flow_model  # noqa: E402
from openpi_flash_models.torch_models.gemma import interleaved  # noqa: E402

FLOAT32_TOLERANCE = 1e-4
BFLOAT16_TOLERANCE = 3e-2  # of the largest action
MODELS = ("pi0", "pi05")


@pytest.fixture(scope="module")
def built(tiny_leaves):
    """Function of kind and dtype to a model; each is built once."""
    models = {}

    def build(kind, dtype=torch.float32):
        if (kind, dtype) not in models:
            leaves = tiny_leaves(kind)
            shape = check_tree(leaves, kind)
            tree = orbax.nest(leaves)["params"]
            models[kind, dtype] = build_flow_model(tree, shape, dtype=dtype)
        return models[kind, dtype]

    return build


@pytest.fixture(scope="module")
def observed(data, openpi):
    """Function of a kind to openpi's two observations and its noise."""

    def read(kind):
        arrays = dict(np.load(data / f"tiny_{kind}_inputs.npz"))
        mask = np.stack([arrays[f"image_mask/{name}"] for name in CAMERAS], axis=1)
        observation = Observation(
            images=torch.from_numpy(openpi("pi05").inputs.images),
            image_mask=torch.from_numpy(mask),
            tokens=torch.from_numpy(arrays["tokenized_prompt"]).long(),
            token_mask=torch.from_numpy(arrays["tokenized_prompt_mask"]),
            state=torch.from_numpy(arrays.get("state", np.zeros((2, 32), np.float32))),
        )
        return observation, torch.from_numpy(arrays["noise"])

    return read


@pytest.fixture(scope="module")
def outputs(data):
    return {kind: dict(np.load(data / f"tiny_{kind}_outputs.npz")) for kind in MODELS}


def sample(model, observation, noise, steps=10):
    return sample_actions(model, observation, noise, model.schedule(steps)).numpy()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_float32_actions_equal_openpis(kind, steps, built, observed, outputs):
    actions = sample(built(kind), *observed(kind), steps)
    expected = outputs[kind][f"float32/actions_{steps}"]
    np.testing.assert_allclose(actions, expected, rtol=0, atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_bfloat16_actions_are_close_to_openpis(kind, steps, built, observed, outputs):
    actions = sample(built(kind, torch.bfloat16), *observed(kind), steps)
    expected = outputs[kind][f"bfloat16/actions_{steps}"]
    largest = np.abs(expected).max()
    np.testing.assert_allclose(actions, expected, rtol=0, atol=BFLOAT16_TOLERANCE * largest)


@pytest.mark.parametrize("kind", MODELS)
def test_the_prefix_leaves_openpis_keys_and_values(kind, built, observed, outputs):
    observation, noise = observed(kind)
    model = built(kind)
    prefix = model.run_prefix(observation, noise.shape[1])
    length = observation.images.shape[1] * 256 + observation.tokens.shape[1]
    seen = prefix.bias[:, 0, 0, :length].numpy()[:, ::16] == 0
    caches = np.stack([cache.numpy() for cache in prefix.caches])[:, :, :length:16]
    keys, values = np.split(caches, 2, axis=3)
    keys = keys[..., np.argsort(interleaved(keys.shape[-1]).numpy())]
    for got, name in ((keys, "k"), (values, "v")):
        expected = outputs[kind][f"float32/t0.7/{name}/every_16th"]
        np.testing.assert_allclose(got[:, seen], expected[:, seen], atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_a_masked_camera_and_prompt_padding_may_be_left_out(kind, built, observed):
    (images, image_mask, tokens, token_mask, state), noise = observed(kind)
    row = next(index for index in range(2) if not image_mask[index].all())
    length = int(token_mask[row].sum())
    one = slice(row, row + 1)
    present = image_mask[row]
    compact = Observation(
        images[one][:, present],
        image_mask[one][:, present],
        tokens[one, :length],
        token_mask[one, :length],
        state[one],
    )
    whole = Observation(images[one], image_mask[one], tokens[one], token_mask[one], state[one])
    few, all_slots = (sample(built(kind), each, noise[one]) for each in (compact, whole))
    np.testing.assert_allclose(few, all_slots, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_an_observation_in_a_batch_gets_what_it_gets_alone(kind, built, observed):
    observation, noise = observed(kind)
    batch = sample(built(kind), observation, noise, 2)
    for row in range(2):
        one = Observation(*(tensor[row : row + 1] for tensor in observation))
        alone = sample(built(kind), one, noise[row : row + 1], 2)
        np.testing.assert_allclose(alone[0], batch[row], rtol=0, atol=1e-5)


def test_pi0_reads_its_state(built, observed):
    observation, noise = observed("pi0")
    moved = observation._replace(state=observation.state + 0.5)
    before, after = (sample(built("pi0"), each, noise, 2) for each in (observation, moved))
    assert np.abs(before - after).max() > 1e-3


def test_uint8_images_mean_what_floats_in_minus_one_to_one_mean(built):
    tower = built("pi05").vision
    levels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    floats = torch.from_numpy(levels.astype(np.float32) / 255.0 * 2.0 - 1.0)
    torch.testing.assert_close(tower(torch.from_numpy(levels)), tower(floats))


def test_times_are_summed_up_in_float32():
    times, step_size = flow_times(10)
    assert step_size == np.float32(-0.1)
    np.testing.assert_array_equal(times[:3], np.array([1.0, 0.9, 0.79999995], np.float32))


def test_the_schedules_of_few_step_counts_are_kept(built):
    model = built("pi05")
    first = model.schedule(1)
    assert model.schedule(1) is first
    for steps in range(2, 2 + SCHEDULES_KEPT):
        model.schedule(steps)
    assert model.schedule(1) is not first


@pytest.mark.parametrize("kind", MODELS)
def test_a_real_model_has_openpis_count_of_parameters(kind):
    with torch.device("meta"):
        model = FlowModel(named_shape(kind))
    counted = sum(parameter.numel() for parameter in model.parameters())
    # The language expert's final norm is in checkpoints, but nobody reads what it makes.
    assert counted + 2048 == {"pi0": 3_238_048_528, "pi05": 3_353_433_872}[kind]


def test_a_tensor_of_another_shape_is_refused(tiny_leaves):
    leaves = dict(tiny_leaves("pi05"))
    shape = check_tree(leaves, "pi05")
    path = ("params", "action_in_proj", "bias")
    leaves[path] = leaves[path][:-1]
    with pytest.raises(ValueError, match="shape"):
        build_flow_model(orbax.nest(leaves)["params"], shape)

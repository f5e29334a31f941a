import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from openpi_flash_models.errors import CheckpointError, ModelOutputError, ObservationError
from openpi_flash_models.load import load_policy
from openpi_flash_models.policy import InferenceControls


@pytest.fixture(scope="module")
def libero_checkpoint(data, tiny_checkpoint, tmp_path_factory):
    """The small weights as a LIBERO checkpoint, with the statistics that openpi was given."""
    directory = tmp_path_factory.mktemp("libero")
    shutil.copytree(tiny_checkpoint / "params", directory / "params")
    shutil.copy(data / "paligemma_tokenizer.model", directory)
    assets = directory / "assets/physical-intelligence/libero"
    assets.mkdir(parents=True)
    shutil.copy(data / "policy_libero_norm_stats.json", assets / "norm_stats.json")
    return directory


@pytest.fixture(scope="module")
def policy(libero_checkpoint):
    loaded = load_policy("pi05_libero", libero_checkpoint, dtype="float32")
    loaded.warm_up()
    return loaded


@pytest.fixture(scope="module")
def recorded(data):
    return dict(np.load(data / "policy_libero.npz"))


@pytest.fixture(scope="module")
def observation(recorded):
    return {key[4:]: value for key, value in recorded.items() if key.startswith("obs/")}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_observation_gets_the_actions_that_openpi_gives(
    libero_checkpoint, recorded, observation, dtype
):
    """openpi's were computed in bfloat16, whose noise floor is 1 to 2 % of the largest action."""
    policy = load_policy("pi05_libero", libero_checkpoint, dtype=dtype)
    result = policy.infer(observation, InferenceControls(noise=recorded["noise"]))
    expected = recorded["out/actions"]
    assert result.actions.shape == (10, 7)
    assert result.actions.dtype == np.float64
    assert np.abs(result.actions - expected).max() < 0.03 * np.abs(expected).max()
    assert result.infer_ms > 0


def test_the_spec_tells_clients_what_to_send(policy):
    spec = policy.spec
    assert (spec.model, spec.robot, spec.action_horizon, spec.action_dim) == (
        "pi05",
        "libero",
        10,
        7,
    )
    assert [(image.path, image.shape) for image in spec.image_specs] == [
        (("observation/image",), (224, 224, 3)),
        (("observation/wrist_image",), (224, 224, 3)),
    ]
    assert len(spec.action_names) == spec.action_dim


def test_a_seed_repeats_and_its_absence_does_not(policy, observation):
    seeded = [policy.infer(observation, InferenceControls(seed=3)).actions for _ in range(2)]
    np.testing.assert_array_equal(*seeded)
    free = [policy.infer(observation).actions for _ in range(2)]
    assert np.abs(free[0] - free[1]).max() > 1e-3


def test_the_number_of_steps_can_be_chosen(policy, observation):
    one = policy.infer(observation, InferenceControls(seed=3, num_steps=1)).actions
    ten = policy.infer(observation, InferenceControls(seed=3, num_steps=10)).actions
    default = policy.infer(observation, InferenceControls(seed=3)).actions
    assert np.abs(one - ten).max() > 1e-3
    np.testing.assert_array_equal(ten, default)


def test_an_image_of_another_size_is_resized(policy, observation):
    wide = np.zeros((480, 640, 3), np.uint8)
    result = policy.infer(observation | {"observation/image": wide}, InferenceControls(seed=0))
    assert np.isfinite(result.actions).all()


@pytest.mark.parametrize(
    ("change", "controls", "problem"),
    [
        ({"prompt": None}, {}, "prompt: missing, and the server has no default_prompt"),
        ({"prompt": 3}, {}, "prompt: expected text, got int"),
        ({}, {"noise": np.zeros((3, 32))}, r"noise: expected shape \[10, 32\], got \[3, 32\]"),
        ({}, {"noise": np.full((10, 32), np.inf)}, "noise: holds a value that is not finite"),
        ({}, {"num_steps": 0}, "num_steps: expected 1 to 200, got 0"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(policy, observation, change, controls, problem):
    with pytest.raises(ObservationError, match=problem):
        policy.infer(observation | change, InferenceControls(**controls))


def test_the_requests_prompt_comes_before_the_default(libero_checkpoint, observation):
    policy = load_policy("pi05_libero", libero_checkpoint, default_prompt="open the drawer")
    seed = InferenceControls(seed=1)
    own = policy.infer(observation, seed).actions
    without = {key: value for key, value in observation.items() if key != "prompt"}
    default = policy.infer(without, seed).actions
    named = policy.infer(without | {"prompt": "open the drawer"}, seed).actions
    np.testing.assert_array_equal(default, named)
    assert np.abs(own - default).max() > 1e-6


def test_several_threads_get_what_each_would_get_alone(policy, observation):
    def infer(seed):
        return policy.infer(observation, InferenceControls(seed=seed, num_steps=1)).actions

    alone = [infer(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for expected, result in zip(alone, pool.map(infer, range(4)), strict=True):
            np.testing.assert_array_equal(result, expected)


def test_actions_that_are_not_finite_never_leave(policy, observation):
    import jax

    broken = policy._params | {
        "action_out_proj": jax.tree.map(lambda x: x * np.nan, policy._params["action_out_proj"])
    }
    other = type(policy)(policy._config, broken, policy._stats, policy._tokenizer)
    with pytest.raises(ModelOutputError, match="not finite"):
        other.infer(observation)


def test_a_checkpoint_without_the_robots_statistics_is_refused(tiny_checkpoint):
    with pytest.raises(CheckpointError, match="assets/droid/norm_stats.json is missing"):
        load_policy("pi05_droid", tiny_checkpoint)


def test_a_checkpoint_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"no such checkpoint directory: {tmp_path}/nowhere"):
        load_policy("pi05_libero", tmp_path / "nowhere")


def test_a_tokenizer_with_more_pieces_than_the_model_is_refused(libero_checkpoint, tmp_path):
    from openpi_flash_models.checkpoints import orbax

    leaves = orbax.read_leaves(libero_checkpoint / "params")
    name = ("params", "PaliGemma", "llm", "embedder", "input_embedding")
    leaves[name] = leaves[name][:1024]
    shutil.copytree(libero_checkpoint / "assets", tmp_path / "assets")
    shutil.copy(libero_checkpoint / "paligemma_tokenizer.model", tmp_path)
    orbax.write_leaves(tmp_path / "params", leaves)
    with pytest.raises(CheckpointError, match="has 2048 pieces, the model only 1024"):
        load_policy("pi05_libero", tmp_path)

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from openpi_flash_models import load
from openpi_flash_models.actions.rtc import DEFAULT_RTC, Guidance, RtcControls, prefix_weights
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.errors import (
    ActionDecodeError,
    CheckpointError,
    InferenceConfigError,
    ModelOutputError,
    ObservationError,
)
from openpi_flash_models.load import load_policy
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_models.model.shape import named_shape
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.flow_actions import FlowActions
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_models.policy.token_actions import TokenActions
from openpi_flash_models.robots import get_robot
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats, read_norm_stats


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


CONFIGS = {
    "pi0": dataclasses.replace(get_config("pi0_libero"), action_horizon=10, delta_mask=()),
    "pi05": get_config("pi05_libero"),
    "pi0_fast": dataclasses.replace(get_config("pi0_fast_libero"), delta_mask=()),
}


class Canned:
    """A model that answers what it is told to, and keeps what it was asked."""

    def __init__(self, answer, kind="pi05", token_buckets=(32, 96)):
        self.shape = named_shape(kind)
        self.token_buckets = token_buckets
        self._answer = answer
        self.asked = []

    def sample(self, inputs, noise, num_steps, guidance):
        self.asked.append((inputs, noise, num_steps, guidance))
        return self._answer(noise)

    def generate(self, inputs):
        self.asked.append((inputs,))
        return self._answer(inputs.tokens)


@pytest.fixture(scope="module")
def canned(libero_checkpoint):
    """Function of an answer to a policy of that model, and the model."""
    stored = read_norm_stats(libero_checkpoint, "physical-intelligence/libero")
    tokenizer = PaligemmaTokenizer(libero_checkpoint / "paligemma_tokenizer.model")

    def make(answer, kind="pi05", **options):
        model = Canned(answer, kind)
        config = CONFIGS[kind]
        stats = options.pop("stats", stored)
        rtc, decoder = options.pop("rtc", DEFAULT_RTC), options.pop("decoder", None)
        actions = (
            TokenActions(model, config, decoder)
            if decoder is not None
            else FlowActions(model, config, rtc=rtc)
        )
        return ModelPolicy(config, actions, stats, tokenizer, **options), model

    return make


def test_actions_that_are_not_finite_never_leave(canned, observation):
    policy, _ = canned(lambda noise: noise * np.nan)
    with pytest.raises(ModelOutputError, match="not finite"):
        policy.infer(observation)


def test_one_bad_request_of_a_batch_is_its_own_answer_only(canned, observation):
    policy, model = canned(lambda noise: noise, max_batch=8)
    good = (observation, InferenceControls(seed=1))
    bad = ({**observation, "prompt": 3}, InferenceControls(seed=1))
    first, refused, last = policy.infer_batch([good, bad, good])
    assert isinstance(refused, ObservationError)
    np.testing.assert_array_equal(first.actions, last.actions)
    assert first.batch_size == 2
    assert len(model.asked) == 1


def test_a_batch_is_split_by_steps_and_by_the_largest_batch(canned, observation):
    policy, model = canned(lambda noise: noise, max_batch=4)
    requests = [(observation, InferenceControls(seed=i, num_steps=1 + i % 2)) for i in range(10)]
    answers = policy.infer_batch(requests)
    asked = [(steps, len(noise)) for _, noise, steps, _ in model.asked]
    assert asked == [(1, 4), (1, 1), (2, 4), (2, 1)]
    for (_, controls), answer in zip(requests, answers, strict=True):
        alone = policy.infer(observation, controls)
        np.testing.assert_array_equal(answer.actions, alone.actions)


def test_three_requests_fill_a_batch_of_four(canned, observation):
    policy, model = canned(lambda noise: noise, max_batch=4)
    assert len(policy.infer_batch([(observation, InferenceControls(seed=0))] * 3)) == 3
    assert model.asked[0][0].images.shape[0] == 4


def test_what_is_masked_is_left_out_and_prompts_are_rounded_up(canned, observation):
    policy, model = canned(lambda noise: noise)
    policy.infer(observation)
    inputs = model.asked[0][0]
    assert inputs.images.shape[1] == 2
    assert inputs.images.dtype == np.uint8
    assert inputs.tokens.shape == (1, 32)
    policy.infer(observation | {"prompt": "put the red cup on the plate " * 4})
    assert model.asked[1][0].tokens.shape == (1, 96)


def test_pi0_reads_the_state_and_z_scores(canned, observation, libero_checkpoint):
    policy, model = canned(lambda noise: noise * 0, kind="pi0")
    result = policy.infer(observation)
    stats = read_norm_stats(libero_checkpoint, "physical-intelligence/libero")
    state = np.asarray(observation["observation/state"], np.float64)
    expected = (state - stats.state.mean[:8]) / (stats.state.std[:8] + 1e-6)
    np.testing.assert_allclose(model.asked[0][0].state[0, :8], expected, rtol=1e-5)
    assert not model.asked[0][0].state[0, 8:].any()
    np.testing.assert_allclose(result.actions, np.tile(stats.actions.mean[:7], (10, 1)))


def test_fast_tokens_become_actions_or_an_error(canned, observation):
    class Decoder:
        def decode(self, tokens, horizon, action_dim):
            if tokens[0] != 2:
                raise ActionDecodeError("no actions in what was said")
            return np.zeros((horizon, action_dim))

    policy, model = canned(lambda tokens: tokens, kind="pi0_fast", decoder=Decoder())
    assert policy.infer(observation).actions.shape == (10, 7)
    assert model.asked[0][0].image_mask.all()
    assert model.asked[0][0].images.shape[1] == 3
    assert policy.spec.supports == ()
    broken, _ = canned(lambda tokens: tokens * 0, kind="pi0_fast", decoder=Decoder())
    with pytest.raises(ModelOutputError, match="no actions in what was said"):
        broken.infer(observation)


def test_an_earlier_chunk_comes_back_as_the_model_said_it(canned, observation):
    """What the policy sends out, sent back, is the model's own normalised chunk."""
    policy, model = canned(lambda noise: noise)
    assert "rtc" in policy.spec.supports
    chunk = policy.infer(observation, InferenceControls(seed=5)).actions
    rtc = RtcControls(previous_actions=chunk[2:], delay=3, execution_horizon=4)
    policy.infer(observation, InferenceControls(rtc=rtc))
    said, guidance = model.asked[0][1], model.asked[1][3]
    np.testing.assert_allclose(guidance.target[0, :8, :7], said[0, 2:, :7], atol=1e-5)
    assert not guidance.target[0, 8:].any()
    assert not guidance.weight[0, :, 7:].any()
    assert guidance.frozen[0].tolist() == [True] * 3 + [False] * 7
    np.testing.assert_allclose(guidance.weight[0, :, 0], prefix_weights(3, 6, 10, "exp"), rtol=1e-6)
    assert not guidance.weight[0, :, 6].any()  # the gripper's


@pytest.mark.parametrize(
    ("rtc", "problem"),
    [
        (RtcControls(np.zeros((3, 6)), 1), r"rtc/previous_actions: expected shape \[n, 7\]"),
        (RtcControls(np.full((3, 7), np.nan), 1), "rtc/previous_actions: holds a value"),
        (RtcControls(np.zeros((3, 7)), 11), "rtc/delay: expected 0 to 10, got 11"),
        (RtcControls(np.zeros((3, 7)), 1, 11), "rtc/execution_horizon: expected 0 to 10, got 11"),
    ],
)
def test_an_earlier_chunk_that_cannot_be_used_is_refused(canned, observation, rtc, problem):
    policy, _ = canned(lambda noise: noise)
    with pytest.raises(ObservationError, match=problem):
        policy.infer(observation, InferenceControls(rtc=rtc))


def test_an_earlier_chunk_too_far_away_to_be_scaled_is_refused(canned, observation):
    ends = np.full(7, 0.01)
    small = FieldStats(mean=0 * ends, std=ends, q01=-ends, q99=ends)
    policy, _ = canned(lambda noise: noise, stats=NormStats(small, small))
    actions = np.zeros((2, 7))
    actions[1, 5] = 3e38
    problem = r"rtc/previous_actions: step 1, number 5 \(\w+\) is 3e\+38, too far from the training"
    with pytest.raises(ObservationError, match=problem):
        policy.infer(observation, InferenceControls(rtc=RtcControls(actions, 1)))


def test_rtc_that_is_off_is_not_offered_and_refused(canned, observation):
    policy, _ = canned(lambda noise: noise, rtc=None)
    assert policy.spec.supports == ("seed", "noise", "num_steps")
    rtc = RtcControls(np.zeros((3, 7)), 1)
    with pytest.raises(ObservationError, match="rtc: is switched off, send the request without it"):
        policy.infer(observation, InferenceControls(rtc=rtc))
    assert policy.infer(observation, InferenceControls(seed=1)).actions.shape == (10, 7)


def test_known_first_actions_are_for_checkpoints_that_were_trained_with_them(
    libero_checkpoint, policy, observation, compilations
):
    known = RtcControls(np.full((6, 7), 0.1), delay=3, is_prefix=True)
    assert "rtc_prefix" not in policy.spec.supports
    with pytest.raises(ObservationError, match="rtc/method: is 'prefix', which the checkpoint was"):
        policy.infer(observation, InferenceControls(rtc=known))

    stats = read_norm_stats(libero_checkpoint, "physical-intelligence/libero")
    tokenizer = PaligemmaTokenizer(libero_checkpoint / "paligemma_tokenizer.model")
    config = dataclasses.replace(get_config("pi05_libero"), trained_with_prefix=True)
    trained = ModelPolicy(
        config, FlowActions(policy._actions.model, config), stats, tokenizer, max_batch=2
    )
    assert {"rtc", "rtc_prefix"} < set(trained.spec.supports)
    trained.warm_up()
    before = len(compilations)
    free = trained.infer(observation, InferenceControls(seed=1)).actions
    answers = []
    for value in (0.1, 0.2):
        rtc = dataclasses.replace(known, previous_actions=np.full((6, 7), value))
        answers.append(trained.infer(observation, InferenceControls(seed=1, rtc=rtc)).actions)
        np.testing.assert_allclose(answers[-1][:3], value, atol=1e-6)
        # what is known beyond the delay neither stays nor pulls
        assert np.abs(answers[-1][3:6] - value).max() > 1e-2
    assert np.abs(answers[0][3:] - free[3:]).max() > 1e-3
    assert np.abs(answers[0][3:] - answers[1][3:]).max() > 1e-3
    guided = dataclasses.replace(known, is_prefix=False)
    requests = [
        (observation, InferenceControls(seed=1, rtc=rtc)) for rtc in (known, None, guided, known)
    ]
    together = trained.infer_batch(requests)
    assert [answer.batch_size for answer in together] == [2, 2, 2, 2]
    for index, expected in ((0, answers[0]), (1, free), (3, answers[0])):
        np.testing.assert_allclose(together[index].actions, expected, atol=1e-4)
    assert len(compilations) == before


def test_a_robot_that_cannot_read_its_actions_has_no_rtc():
    def doubled(actions):
        return actions * 2

    robot = dataclasses.replace(get_robot("libero"), actions_to_robot=doubled)
    assert robot.actions_to_model is None
    assert get_robot("aloha").actions_to_model is not None


def test_aloha_reads_back_the_actions_it_was_sent():
    aloha = get_robot("aloha")
    actions = np.random.default_rng(0).normal(size=(5, 14))
    there = aloha.actions_to_robot(actions)
    np.testing.assert_allclose(aloha.actions_to_model(there), actions, atol=1e-12)


@pytest.fixture(scope="module")
def compilations():
    """Grows with every program that JAX compiles, the smallest included."""
    made = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            made.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x + len(made))(1.0)
    assert made, "the event has another name in this version"
    return made


def test_nothing_is_compiled_after_the_warm_up(policy, observation, compilations):
    earlier = RtcControls(np.zeros((8, 7)), delay=1)
    before = len(compilations)
    policy.infer(observation, InferenceControls())
    policy.infer(observation, InferenceControls(seed=3))
    policy.infer(observation, InferenceControls(noise=np.zeros((10, 32), np.float32)))
    for steps, controls in ((1, earlier), (2, None), (11, earlier), (None, earlier)):
        policy.infer(observation, InferenceControls(num_steps=steps, rtc=controls))
    for prompt in ("go", "put the red cup on the plate " * 4, "go " * 300):
        policy.infer(observation | {"prompt": prompt}, InferenceControls(num_steps=2))
    assert len(compilations) == before


@pytest.mark.parametrize("method", ["identity", "vjp", "prefix"])
@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_one_program_serves_any_steps_with_and_without_an_earlier_chunk(
    kind, method, micro, compilations
):
    generator = np.random.default_rng(0)
    inputs = ModelInputs(
        images=generator.integers(0, 256, (1, 1, 224, 224, 3), np.uint8),
        image_mask=np.ones((1, 1), bool),
        tokens=np.full((1, 4), 3, np.int32),
        token_mask=np.ones((1, 4), bool),
        state=np.zeros((1, 4), np.float32),
    )
    noise = generator.normal(size=(1, 6, 4)).astype(np.float32)
    model, frozen = micro(kind), np.arange(6)[None] < 2
    earlier = Guidance(noise, np.full_like(noise, 0.5), frozen)
    model.act(inputs, noise, 10, method=method)
    before = len(compilations)
    for steps, guidance in ((1, None), (10, earlier), (25, earlier)):
        model.act(inputs, noise, steps, guidance=guidance, method=method)
    assert len(compilations) == before


def test_switches_of_jax_are_refused_for_a_checkpoint_that_runs_in_pytorch(
    libero_checkpoint, monkeypatch
):
    monkeypatch.setattr(load, "choose_framework", lambda *_: "pytorch")
    with pytest.raises(
        InferenceConfigError, match=r"graph: its switches are for JAX only, .* in PyTorch"
    ):
        load_policy("pi05_libero", libero_checkpoint, graph=ALL_ON)


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

"""What pi0-FAST answers where its tokens are no chunk: an error, where the robot is, or zeros."""

import logging

import numpy as np
import pytest

from openpi_flash_models.actions.malformed import Substitute, held_actions
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import CONFIGS, get_config
from openpi_flash_models.errors import ActionDecodeError, InferenceConfigError, ModelOutputError
from openpi_flash_models.model.shape import named_shape
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.token_actions import TokenActions
from openpi_flash_models.robots import ROBOTS, get_robot
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats

MALFORMED, GOOD = 7, 8


class Tokens:
    """A model that generates the same tokens for every observation."""

    def __init__(self, *first):
        self.shape = named_shape("pi0_fast")
        self.token_buckets = None
        self._first = first

    def generate(self, inputs):
        tokens = np.zeros((len(inputs.tokens), 4), np.int32)
        tokens[:, 0] = [*self._first, *[self._first[-1]] * len(tokens)][: len(tokens)]
        return tokens


class Decoder:
    """Decodes a chunk of halves, unless the tokens are the malformed ones."""

    def decode(self, tokens, horizon, action_dim):
        if tokens[0] == MALFORMED:
            raise ActionDecodeError("3 tokens hold 5 coefficients, expected 70")
        return np.full((horizon, action_dim), 0.5)


def stats_of(robot):
    """Statistics whose middle is far from zero, so that every mistake shows."""
    sizes = sum(part.size for part in robot.state), len(robot.action_names)
    fields = [
        FieldStats(np.full(n, 10.0), np.full(n, 2.0), np.full(n, 4.0), np.full(n, 8.0))
        for n in sizes
    ]
    return NormStats(*fields)


@pytest.fixture
def make(data):
    tokenizer = PaligemmaTokenizer(data / "paligemma_tokenizer.model")

    def make(config, *first, max_batch=1, **options):
        return ModelPolicy(
            config,
            TokenActions(Tokens(*first), config, Decoder(), **options),
            stats_of(config.robot),
            tokenizer,
            "fold the towel",
            max_batch=max_batch,
        )

    return make


def observation_of(robot):
    example = robot.example_observation()
    for i, part in enumerate(robot.state):
        example[part.key] = np.arange(part.size) / 10 + i
    return example


FAST = [name for name, config in CONFIGS.items() if config.kind == "pi0_fast"]


def test_an_error_is_the_default(make):
    policy = make(get_config("pi0_fast_droid"), MALFORMED)
    with pytest.raises(ModelOutputError, match="3 tokens hold 5 coefficients"):
        policy.infer(observation_of(get_robot("droid")))


@pytest.mark.parametrize("name", FAST)
def test_hold_keeps_every_robot_where_it_is(name, make, caplog):
    config = get_config(name)
    observation = observation_of(config.robot)
    with caplog.at_level(logging.WARNING):
        result = make(config, MALFORMED, malformed_tokens="hold").infer(observation)
    state = np.concatenate([np.atleast_1d(observation[part.key]) for part in config.robot.state])
    expected = {
        "droid": [*[0.0] * 7, state[-1]],  # velocities, and the gripper's position
        "droid_joint_position": state,
        "libero": [0.0] * 7,  # offsets
    }[config.robot.name]
    np.testing.assert_allclose(result.actions, [expected] * config.action_horizon)
    assert result.substitute == Substitute("hold", "3 tokens hold 5 coefficients, expected 70")
    assert any("answered with hold" in message for message in caplog.messages)


def test_hold_is_in_the_robots_own_units():
    """ALOHA's model has other signs and gripper units than the robot; its hold has not."""
    aloha = get_robot("aloha")
    state = np.linspace(-1, 1, 14)
    np.testing.assert_array_equal(held_actions(aloha, state, 3), [state] * 3)


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_every_robot_of_ours_can_hold(robot):
    assert len(robot.hold) == len(robot.action_names)


def test_zeros_are_openpis(make):
    """Zeros in the scaled space: the middle of the percentiles, and relative to the state."""
    droid = get_config("pi0_fast_droid")
    result = make(droid, MALFORMED, malformed_tokens="zeros").infer(observation_of(droid.robot))
    np.testing.assert_allclose(result.actions, 6.0, atol=1e-6)
    assert result.substitute.kind == "zeros"
    libero = get_config("pi0_fast_libero")
    observation = observation_of(libero.robot)
    result = make(libero, MALFORMED, malformed_tokens="zeros").infer(observation)
    state = observation["observation/state"]
    np.testing.assert_allclose(result.actions[:, :6], [6.0 + state[:6]] * 10, atol=1e-6)
    np.testing.assert_allclose(result.actions[:, 6], 6.0, atol=1e-6)


@pytest.mark.parametrize("choice", ["error", "hold", "zeros"])
def test_a_chunk_of_the_models_is_never_replaced(choice, make):
    droid = get_config("pi0_fast_droid")
    result = make(droid, GOOD, malformed_tokens=choice).infer(observation_of(droid.robot))
    np.testing.assert_allclose(result.actions, 7.0, atol=1e-5)
    assert result.substitute is None


def test_in_a_batch_only_the_malformed_one_is_replaced(make):
    from openpi_flash_models.policy.policy_protocol import InferenceControls

    droid = get_config("pi0_fast_droid")
    policy = make(droid, GOOD, MALFORMED, GOOD, malformed_tokens="hold", max_batch=4)
    request = (observation_of(droid.robot), InferenceControls())
    answers = policy.infer_batch([request] * 3)
    kinds = [answer.substitute and answer.substitute.kind for answer in answers]
    assert kinds == [None, "hold", None]


def test_a_robot_that_does_not_say_how_cannot_hold(make):
    import dataclasses

    unknown = dataclasses.replace(get_robot("droid"), name="mine", hold=None)
    config = InferenceConfig("mine", unknown, "droid", 10, kind="pi0_fast", action_dim=8)
    with pytest.raises(InferenceConfigError, match="the robot mine does not say which number"):
        make(config, GOOD, malformed_tokens="hold")
    assert make(config, GOOD, malformed_tokens="zeros")
    with pytest.raises(InferenceConfigError, match="is 'guess', expected one of error, hold, zer"):
        make(config, GOOD, malformed_tokens="guess")


@pytest.mark.parametrize(
    ("hold", "problem"),
    [
        ((0,), "hold has 1 entries, expected one for each of the 8 actions"),
        ((None,) * 7 + (8,), "hold names number 8 of the state, expected 0 to 7, or nothing"),
        ((None,) * 7 + (-1,), "hold names number -1 of the state"),
    ],
)
def test_a_hold_that_does_not_fit_the_robot_is_refused(hold, problem):
    import dataclasses

    with pytest.raises(InferenceConfigError, match=f"robot droid: {problem}"):
        dataclasses.replace(get_robot("droid"), hold=hold)


def test_actions_that_are_not_finite_are_named_by_step_and_number(make, monkeypatch):
    def broken(self, tokens, horizon, action_dim):
        actions = np.zeros((horizon, action_dim))
        actions[3, 5] = np.nan
        return actions

    monkeypatch.setattr(Decoder, "decode", broken)
    droid = get_config("pi0_fast_droid")
    with pytest.raises(ModelOutputError, match=r"are not finite: actions\[3, 5\] is nan"):
        make(droid, GOOD).infer(observation_of(droid.robot))

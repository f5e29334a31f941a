"""lerobot_policy.py: over a fake of LeRobot's interface, and over LeRobot where it is installed."""

import contextlib
import importlib.util
import json
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
from server_configs import parse

from flash_transport import FlashTransportPolicy, ServerError
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.own_policy.errors import PolicyLoadError
from openpi_flash_server.own_policy.lerobot_policy import LeRobotPolicy
from openpi_flash_server.own_policy.own_policy import own_policy
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.service import Service

TOP, STATE = "observation.images.top", "observation.state"


class Tensor(np.ndarray):
    """As much of torch's tensors as the adapter uses."""

    def float(self):
        return self.astype(np.float32)

    def cpu(self):
        return self


class Processor:
    """One of LeRobot's pipelines: counts its calls, and scales."""

    def __init__(self, convert, *steps):
        self.convert = convert
        self.steps = steps
        self.resets = 0

    def __call__(self, value):
        return self.convert(value)

    def reset(self):
        self.resets += 1


class TokenizerProcessorStep:
    """Named as LeRobot's."""


class FakePolicy:
    """Answers the scaled state in every step; remembers its batches."""

    def __init__(self, config):
        self.config = config
        self.batches = []
        self.resets = 0

    @classmethod
    def from_pretrained(cls, checkpoint, *, config):
        return cls(config)

    def predict_action_chunk(self, batch):
        self.batches.append(batch)
        return np.repeat(batch[STATE][:, None], 4, axis=1).view(Tensor)

    def reset(self):
        self.resets += 1


@pytest.fixture
def fake(monkeypatch):
    """Puts a fake LeRobot in place; `fake(...)` sets what its checkpoint is."""
    made = SimpleNamespace(overrides=None)

    def feature(*shape):
        return SimpleNamespace(shape=shape)

    def install(*, kind="act", steps=None, reads_task=False):
        features = {STATE: feature(2), TOP: feature(3, 4, 6)}
        config = SimpleNamespace(
            type=kind,
            device="cpu",
            input_features=features,
            image_features={TOP: features[TOP]},
            observation_delta_indices=None if steps is None else list(range(1 - steps, 1)),
        )

        def from_pretrained(checkpoint):
            if checkpoint == "/absent":
                raise FileNotFoundError("config.json not found in /absent")
            return config

        def scale(batch):
            return {**batch, STATE: batch[STATE] * 2}

        def processors(config, *, pretrained_path, preprocessor_overrides):
            made.overrides = preprocessor_overrides
            before = [TokenizerProcessorStep()] if reads_task else []
            made.before = Processor(scale, *before)
            made.after = Processor(lambda actions: actions + 100)
            return made.before, made.after

        torch = types.ModuleType("torch")
        torch.from_numpy = lambda array: array.view(Tensor)
        torch.inference_mode = contextlib.nullcontext
        configs = types.ModuleType("lerobot.configs")
        configs.PreTrainedConfig = SimpleNamespace(from_pretrained=from_pretrained)
        factory = types.ModuleType("lerobot.policies.factory")
        factory.get_policy_class = lambda name: FakePolicy
        factory.make_pre_post_processors = processors
        modules = {"lerobot": types.ModuleType("lerobot")}
        modules["lerobot.policies"] = types.ModuleType("lerobot.policies")
        modules |= {"torch": torch, "lerobot.configs": configs, "lerobot.policies.factory": factory}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return made

    return install


def request(**more):
    return {STATE: np.array([1.0, 2.0]), TOP: np.zeros((4, 6, 3), np.uint8), **more}


def test_the_processors_of_the_checkpoint_are_on_both_sides_of_the_policy(fake):
    made = fake()
    policy = LeRobotPolicy("/checkpoint")
    assert policy.infer(request())["actions"].tolist() == [[102, 104]] * 4
    assert made.overrides == {"device_processor": {"device": "cpu"}}
    assert LeRobotPolicy("/c", device="cuda:1")._policy.config.device == "cuda:1"
    assert made.overrides == {"device_processor": {"device": "cuda:1"}}


def test_a_policy_that_reads_no_task_gets_none_and_asks_for_none(fake):
    fake()
    policy = LeRobotPolicy("/checkpoint")
    policy.infer(request(prompt="fold"))
    assert policy._policy.batches[0]["task"] == [""]
    assert [given["path"] for given in policy.metadata["inputs"]] == [[STATE], [TOP]]
    assert policy.metadata["inputs"][1]["shape"] == [4, 6, 3]


def test_a_policy_with_a_tokenizer_needs_a_task(fake):
    fake(kind="smolvla", steps=1, reads_task=True)
    policy = LeRobotPolicy("/checkpoint")
    with pytest.raises(ObservationError, match="prompt: missing"):
        policy.infer(request())
    policy.infer(request(prompt="fold"))
    batch = policy._policy.batches[-1]
    assert batch["task"] == ["fold"]
    assert batch[STATE].shape == (1, 1, 2)
    prompt = policy.metadata["inputs"][-1]
    assert prompt == {"path": ["prompt"], "kind": "text", "required": True}
    assert not LeRobotPolicy("/c", default_prompt="x").metadata["inputs"][-1]["required"]


def test_reset_reaches_the_policy_and_its_processors(fake):
    made = fake()
    policy = LeRobotPolicy("/checkpoint")
    policy.reset()
    assert (policy._policy.resets, made.before.resets, made.after.resets) == (1, 1, 1)


def test_a_checkpoint_that_lerobot_cannot_load_is_named(fake):
    fake()
    with pytest.raises(PolicyLoadError, match=r"cannot load /absent: FileNotFoundError: config"):
        LeRobotPolicy("/absent")


def serve(directory, checkpoint):
    values = {
        "action": {"model_config_name": "lerobot", "checkpoint_dir": str(checkpoint)},
        "action_transport": {"websocket_port": 0, "quic_port": 0},
        "host": "127.0.0.1",
        "state_dir": str(directory / "state"),
    }
    return Service(parse(values))


def test_without_lerobot_the_start_ends_with_what_to_install(tmp_path, monkeypatch):
    for name in ("lerobot", "lerobot.configs"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    service = serve(tmp_path, tmp_path)
    try:
        with pytest.raises(StartError) as caught:
            service.load()
    finally:
        service.close(grace=0)
    assert "pip install './src/openpi_flash_server[lerobot]'" in str(caught.value)


# LeRobot itself

real = pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="needs lerobot")
SIZES = {
    "act": {
        "chunk_size": 10,
        "n_action_steps": 10,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
    },
    "diffusion": {
        "horizon": 16,
        "n_action_steps": 8,
        "down_dims": (16, 32, 64),
        "n_groups": 4,
        "diffusion_step_embed_dim": 16,
        "num_train_timesteps": 10,
        "num_inference_steps": 2,
        "crop_shape": None,
        "spatial_softmax_num_keypoints": 4,
    },
}


def save(kind, directory):
    """Writes a small untrained checkpoint as LeRobot does, on this machine's CPU."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import (
        get_policy_class,
        make_policy_config,
        make_pre_post_processors,
    )

    config = make_policy_config(
        kind,
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (6,)),
            TOP: PolicyFeature(FeatureType.VISUAL, (3, 96, 128)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
        device="cpu",
        pretrained_backbone_weights=None,
        **SIZES[kind],
    )
    torch.manual_seed(0)
    policy = get_policy_class(kind)(config)

    def stats(shape, low, high):
        values = {"mean": 0.5, "std": 2.0, "min": low, "max": high}
        return {name: torch.full(shape, value) for name, value in values.items()}

    processors = make_pre_post_processors(
        config,
        dataset_stats={
            STATE: stats((6,), -1.0, 3.0),
            TOP: stats((3, 1, 1), 0.0, 1.0),
            "action": stats((6,), -5.0, 5.0),
        },
    )
    for part in (policy, *processors):
        part.save_pretrained(directory)
    return directory


def chunk_of_lerobot(checkpoint, observation, steps):
    """What LeRobot's own loop would play, step by step."""
    import torch
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.policies.utils import prepare_observation_for_inference

    config = PreTrainedConfig.from_pretrained(checkpoint)
    policy = get_policy_class(config.type).from_pretrained(checkpoint)
    before, after = make_pre_post_processors(config, pretrained_path=str(checkpoint))
    played = []
    torch.manual_seed(1)
    for _ in range(steps):
        batch = prepare_observation_for_inference(dict(observation), torch.device("cpu"))
        played.append(after(policy.select_action(before(batch)))[0].numpy())
    return np.stack(played)


@real
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", SIZES)
def test_the_chunk_is_what_lerobots_own_loop_plays(kind, tmp_path):
    import torch

    checkpoint = save(kind, tmp_path / "checkpoint")
    policy = own_policy(LeRobotPolicy(str(checkpoint)), "lerobot")
    policy.warm_up()
    horizon = {"act": 10, "diffusion": 8}[kind]
    assert (policy.spec.action_horizon, policy.spec.action_dim) == (horizon, 6)
    random = np.random.default_rng(0)
    observation = {
        STATE: random.normal(size=6).astype(np.float32),
        TOP: random.integers(0, 255, (96, 128, 3), dtype=np.uint8),
    }
    torch.manual_seed(1)
    actions = policy.infer(observation).actions
    np.testing.assert_allclose(
        actions, chunk_of_lerobot(checkpoint, observation, horizon), atol=1e-5
    )


@real
@pytest.mark.filterwarnings("default")
def test_a_checkpoint_of_lerobots_is_served_over_quic(tmp_path):
    service = serve(tmp_path, save("act", tmp_path / "checkpoint"))
    try:
        service.load()
        endpoint = service.endpoints["action"]
        fingerprint = endpoint.quic.fingerprint
        with FlashTransportPolicy(
            "127.0.0.1", endpoint.quic.port, server_fingerprint=fingerprint
        ) as client:
            metadata = client.get_server_metadata()
            assert metadata["model"] == "lerobot act"
            assert metadata["image_specs"][0]["target_shape"] == [96, 128, 3]
            json.dumps(metadata)
            observation = {STATE: np.zeros(6), TOP: np.zeros((96, 128, 3), np.uint8)}
            assert client.infer(observation, timeout=60)["actions"].shape == (10, 6)
            with pytest.raises(ServerError, match=r"bad_request: observation.state: expected"):
                client.infer({**observation, STATE: np.zeros(5)}, timeout=60)
    finally:
        service.close(grace=5)

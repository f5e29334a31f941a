"""What a request chooses neither captures a graph in service nor holds more of them."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from micro import micro_shape, random_leaves

from openpi_flash_models.actions.rtc import RtcControls, RtcOptions
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.flow_actions import FlowActions
from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import read_norm_stats

torch = pytest.importorskip("torch", reason="needs the torch extra")

from openpi_flash_models.torch_models.graphs import GraphStore  # noqa: E402
from openpi_flash_models.torch_models.models import TorchActionModel  # noqa: E402

CONFIG = dataclasses.replace(get_config("pi05_libero"), max_token_len=40)
HORIZON = CONFIG.action_horizon
SHAPE = micro_shape("pi05", vocabulary=2048, action_dim=CONFIG.action_dim)


class Recorder:
    """Stands in for the capture: keeps what was captured and replayed, on any device."""

    def __init__(self):
        self.captured, self.replayed = [], []

    def __call__(self, call, inputs):
        shapes = [tuple(tensor.shape) for tensor in inputs]
        self.captured.append(shapes)
        slots = [tensor.clone() for tensor in inputs]
        call(tuple(slots))  # the runs before a capture
        return Replay(self, call, slots)


class Replay:
    """As a CUDA graph: reads its own slots, whose shapes are what they are."""

    def __init__(self, recorder, call, slots):
        self.recorder, self.call, self.slots = recorder, call, slots

    def replay(self, inputs):
        for slot, tensor in zip(self.slots, inputs, strict=True):
            assert slot.shape == tensor.shape
            slot.copy_(tensor)
        self.recorder.replayed.append(len(inputs))
        return self.call(tuple(self.slots))


def call(inputs):
    return sum(tensor.float().sum() for tensor in inputs)


@pytest.fixture(scope="module")
def served(data, tmp_path_factory):
    """Function of ``rtc`` to a policy of random weights and the recorder of its captures."""
    tree = nest(random_leaves(SHAPE, spread=0.1))["params"]
    assets = tmp_path_factory.mktemp("libero") / "assets" / CONFIG.asset_id
    assets.mkdir(parents=True)
    shutil.copy(data / "policy_libero_norm_stats.json", assets / "norm_stats.json")
    stats = read_norm_stats(assets.parents[len(Path(CONFIG.asset_id).parts)], CONFIG.asset_id)
    tokenizer = PaligemmaTokenizer(data / "paligemma_tokenizer.model")

    def serve(rtc, max_batch=1):
        recorder = Recorder()
        model = TorchActionModel(
            tree, SHAPE, mode="none", capture=recorder, rtc=rtc or RtcOptions()
        )
        actions = FlowActions(model, CONFIG, rtc=rtc)
        return ModelPolicy(CONFIG, actions, stats, tokenizer, max_batch=max_batch), recorder

    return serve


@pytest.fixture(scope="module")
def observation(data):
    recorded = dict(np.load(data / "policy_libero.npz"))
    return {key[4:]: value for key, value in recorded.items() if key.startswith("obs/")}


def controls_that_a_client_may_send():
    earlier = RtcControls(np.zeros((HORIZON - 2, 7)), delay=1)
    yield InferenceControls()
    yield InferenceControls(seed=3)
    yield InferenceControls(noise=np.zeros((HORIZON, 32), np.float32))
    for steps in (2, DEFAULT_STEPS):
        yield InferenceControls(num_steps=steps)
        yield InferenceControls(num_steps=steps, rtc=earlier)


@pytest.mark.parametrize("method", ["identity", "vjp", "prefix"])
def test_nothing_is_captured_after_the_warm_up(method, served, observation):
    policy, recorder = served(RtcOptions(method=method))
    policy.warm_up()
    # prompts of up to 32 and 40 words, with and without an earlier chunk; no camera may be left out
    assert len(recorder.captured) == len({str(shapes) for shapes in recorder.captured}) == 4
    captured, replayed = len(recorder.captured), len(recorder.replayed)
    asked = list(controls_that_a_client_may_send())
    for prompt in ("go", "put the red cup on the plate " * 8):
        for controls in asked:
            policy.infer(observation | {"prompt": prompt}, controls)
    assert len(recorder.captured) == captured
    ordinary = sum(controls.num_steps in (None, DEFAULT_STEPS) for controls in asked)
    assert len(recorder.replayed) - replayed == 2 * ordinary


def test_no_graph_is_made_for_earlier_chunks_where_they_are_refused(served):
    policy, recorder = served(None)
    policy.warm_up()
    assert len(recorder.captured) == 2


def test_a_warm_up_covers_every_batch(served, observation):
    policy, recorder = served(RtcOptions(), max_batch=2)
    policy.warm_up()
    assert sorted({shapes[0][0] for shapes in recorder.captured}) == [1, 2]
    captured = len(recorder.captured)
    earlier = InferenceControls(rtc=RtcControls(np.zeros((4, 7)), delay=1))
    policy.infer_batch([(observation, InferenceControls()), (observation, earlier)])
    assert len(recorder.captured) == captured


def test_a_graph_gives_what_a_call_without_it_gives(served, observation):
    policy, recorder = served(RtcOptions())
    plain, _ = served(RtcOptions())
    plain._actions.model._sampler._graphs = None
    for controls in (InferenceControls(seed=1), InferenceControls(seed=2)):
        expected = plain.infer(observation, controls).actions
        np.testing.assert_array_equal(policy.infer(observation, controls).actions, expected)
    assert len(recorder.captured) == 1
    assert len(recorder.replayed) == 2


def test_only_the_ordinary_number_of_steps_is_captured():
    recorder = Recorder()
    store = GraphStore(recorder, steps=10)
    inputs = (torch.zeros(2),)
    assert store.find(call, inputs, 9) is None
    assert store.find(call, inputs, 10) is store.find(call, inputs, 10)
    assert recorder.captured == [[(2,)]]


def test_shapes_and_types_have_graphs_of_their_own():
    recorder = Recorder()
    store = GraphStore(recorder, steps=10)
    kinds = (torch.zeros(2), torch.zeros(3), torch.zeros(2, dtype=torch.uint8))
    assert len({id(store.find(call, (each,), 10)) for each in kinds}) == 3


def test_a_full_store_keeps_its_graphs_and_makes_no_more():
    store = GraphStore(Recorder(), steps=10, most=2)
    first, _ = (store.find(call, (torch.zeros(size),), 10) for size in (1, 2))
    assert store.find(call, (torch.zeros(3),), 10) is None
    assert store.find(call, (torch.zeros(1),), 10) is first

"""Images have the size that the checkpoint's positions and patches say."""

import dataclasses
import shutil

import numpy as np
import pytest
from micro import micro_shape, random_leaves

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.models import JaxActionModel
from openpi_flash_models.jax_models.siglip import encode_images
from openpi_flash_models.jax_models.weights import lay_out
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_models.model.shape import check_tree, expected_shapes
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.flow_actions import FlowActions
from openpi_flash_models.policy.planner import SubtaskPlanner
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.images import resize_with_pad
from openpi_flash_models.transforms.norm_stats import read_norm_stats

SMALL = micro_shape("pi05", patch=28, image_size=112, vocabulary=2048, action_dim=8)
POSITIONS = ("params", "PaliGemma", "img", "pos_embedding")
KERNEL = ("params", "PaliGemma", "img", "embedding", "kernel")


@pytest.fixture(scope="module")
def leaves():
    return random_leaves(SMALL)


def test_the_size_is_read_from_the_tensors(leaves):
    shape = check_tree(leaves, "small")
    assert shape == SMALL
    assert (shape.image_size, shape.image_tokens) == (112, 16)
    assert expected_shapes(shape)["/".join(POSITIONS)] == (1, 16, 16)


def test_positions_that_make_no_square_are_refused(leaves):
    wrong = leaves | {POSITIONS: np.zeros((1, 15, 16), np.float32)}
    with pytest.raises(CheckpointError, match=r"small: mis-shaped .*pos_embedding \(15 positions"):
        check_tree(wrong, "small")


def test_a_small_image_is_seen_as_its_enlargement_is(leaves):
    """A patch of twice the side sees the mean of four pixels, which are the same here."""
    enlarged = leaves | {KERNEL: leaves[KERNEL].repeat(2, axis=0).repeat(2, axis=1) / 4}
    images = np.random.default_rng(0).uniform(-1, 1, (2, 112, 112, 3)).astype(np.float32)

    def seen(leaves, images):
        shape = check_tree(leaves, "either")
        weights = lay_out(nest(leaves)["params"], shape, ALL_ON.layout)
        return shape.image_size, encode_images(Arch(shape, ALL_ON.graph), weights["vision"], images)

    (small, ours), (large, theirs) = (
        seen(leaves, images),
        seen(enlarged, images.repeat(2, axis=1).repeat(2, axis=2)),
    )
    assert (small, large) == (112, 224)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.fixture(scope="module")
def stats(data, tmp_path_factory):
    assets = tmp_path_factory.mktemp("stats") / "assets/libero"
    assets.mkdir(parents=True)
    shutil.copy(data / "policy_libero_norm_stats.json", assets / "norm_stats.json")
    return read_norm_stats(assets.parents[1], "libero")


def test_a_policy_asks_for_images_of_its_models_size(leaves, data, stats):
    tokenizer = PaligemmaTokenizer(data / "paligemma_tokenizer.model")
    config = dataclasses.replace(get_config("pi05_libero"), max_token_len=16)
    model = JaxActionModel(nest(leaves)["params"], SMALL)
    policy = ModelPolicy(config, FlowActions(model, config), stats, tokenizer)
    assert {image.shape for image in policy.spec.image_specs} == {(112, 112, 3)}
    asked = [given for given in policy.spec.inputs if given.kind == "image"]
    assert {given.shape for given in asked} == {(112, 112, 3)}
    observation = config.robot.example_observation("go")
    assert policy.infer(observation).actions.shape == (10, 7)
    # the images that it asks for reach the model as they are
    generator = np.random.default_rng(1)
    for given in asked:
        observation[given.path[0]] = generator.integers(0, 256, given.shape).astype(np.uint8)
    inputs = policy._reader.model_inputs(observation, np.zeros(8))
    np.testing.assert_array_equal(inputs.images[0, 0], observation["observation/image"])


def test_a_planner_reads_images_of_its_models_size(data):
    class Model:
        shape = SMALL
        token_buckets = None

    planner = SubtaskPlanner(Model(), PaligemmaTokenizer(data / "paligemma_tokenizer.model"), None)
    image = np.zeros((480, 640, 3), np.uint8)
    inputs = planner.model_inputs({"images": {"base_0_rgb": image}}, prompt="go")
    assert inputs.images.shape == (1, 3, 112, 112, 3)


def test_a_thin_image_keeps_a_line_of_pixels():
    assert resize_with_pad(np.full((2, 448, 3), 9, np.uint8), 112, 112).max() == 9

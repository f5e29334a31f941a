import contextlib
import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.errors import CheckpointError, ModelOutputError, ObservationError
from openpi_flash_models.jax_models import decode as words
from openpi_flash_models.jax_models.models import JaxTokenModel
from openpi_flash_models.load import load_planner
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.model.packing import join
from openpi_flash_models.model.shape import check_tree, named_shape
from openpi_flash_models.policy.planner import PlannerOptions, SubtaskPlanner
from openpi_flash_models.robots import get_robot
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer

ATTENDED = PlannerOptions(missing_cameras="attended")
MAX_TOKENS = 20


PROGRAMS = (words.decode, words.embed, words.begin, words.go_on)


class ModelOfReleasedSize:
    """All that a planner reads of a model to make its inputs."""

    shape = named_shape("pi05")


RELEASED_SIZE = ModelOfReleasedSize()


@pytest.fixture(scope="module")
def recorded(data):
    return dict(np.load(data / "planner.npz"))


@pytest.fixture(scope="module")
def prompts(data):
    cases = json.loads((data / "planner.json").read_text())["cases"]
    return {name: case["prompt"] for name, case in cases.items()}


@pytest.fixture(scope="module")
def tokenizer(data):
    return PaligemmaTokenizer(data / "paligemma_tokenizer.model")


@pytest.fixture(scope="module")
def inputs(recorded, openpi, tokenizer, prompts):
    """What the model is given in each recorded case, made of the request by our own planner."""
    aloha = SubtaskPlanner(RELEASED_SIZE, tokenizer, get_robot("aloha"), ATTENDED)
    anyone = SubtaskPlanner(RELEASED_SIZE, tokenizer, None, ATTENDED)
    cameras = {name: recorded[f"image/{name}"] for name in ("cam_high", "cam_left_wrist")}
    three = anyone.model_inputs({}, prompt=prompts["three_cameras"])
    return {
        # recorded from float images, which a request cannot carry in this range
        "three_cameras": dataclasses.replace(three, images=openpi("pi05").inputs.images[:1]),
        "aloha_two_cameras": aloha.model_inputs(
            {"images": cameras}, prompt=prompts["aloha_two_cameras"]
        ),
        "no_images": anyone.model_inputs({}, prompt=prompts["no_images"]),
    }


@pytest.fixture(scope="module")
def tiny(model):
    return model("pi05")


CASES = ("three_cameras", "aloha_two_cameras", "no_images")


def decode(tiny, inputs, *, allowed, eos=1, max_tokens=MAX_TOKENS):
    arch, weights = tiny
    head = words.cut_head(weights, jnp.asarray(allowed))
    tokens = words.decode(arch, weights, head, inputs, jnp.int32(eos), max_tokens=max_tokens)
    return np.asarray(tokens)[0]


@pytest.mark.parametrize("case", CASES)
def test_the_prefix_is_the_one_that_openpi_flash_builds(recorded, inputs, case):
    given = inputs[case]
    np.testing.assert_array_equal(given.tokens[0], recorded[f"{case}/prompt_tokens"])
    np.testing.assert_array_equal(given.token_mask[0], recorded[f"{case}/prompt_mask"])
    assert given.image_mask.all()


@pytest.mark.parametrize("case", CASES)
def test_the_first_logits_equal_openpi_flashs(tiny, recorded, inputs, case):
    hidden, _ = words.read_prefix(*tiny, inputs[case], MAX_TOKENS)
    logits = np.asarray(words.logits(words.whole_head(tiny.weights), hidden))[0]
    np.testing.assert_allclose(logits, recorded[f"{case}/first_logits"], atol=1e-4)


@pytest.mark.parametrize("case", ["three_cameras", "aloha_two_cameras"])
def test_logits_after_a_given_text_equal_openpi_flashs(tiny, recorded, inputs, case):
    """A given sequence shows wrong positions and caches, which a repeated token hides."""
    expected = recorded[f"forced/{case}/step_logits"]
    tokens = recorded["forced/tokens"]
    head = words.whole_head(tiny.weights)
    step = jax.jit(words.decode_step, static_argnums=0)
    hidden, state = words.read_prefix(*tiny, inputs[case], MAX_TOKENS)
    slots = state.seen.shape[1] - MAX_TOKENS
    for place, token in enumerate(tokens):
        logits = np.asarray(words.logits(head, hidden))[0]
        np.testing.assert_allclose(logits, expected[place], atol=1e-4)
        ids = jnp.array([token], jnp.int32)
        hidden, state = step(*tiny, state, ids, jnp.int32(slots + place))


@pytest.mark.parametrize("case", CASES)
def test_the_greedy_words_equal_openpi_flashs(tiny, recorded, inputs, case):
    tokens = decode(tiny, inputs[case], allowed=recorded["vocab_mask"])
    np.testing.assert_array_equal(tokens, recorded[f"{case}/masked/tokens"])


def test_only_allowed_words_are_said(tiny, recorded, inputs):
    allowed = recorded["random_mask/vocab_mask"]
    tokens = decode(tiny, inputs["three_cameras"], allowed=allowed)
    np.testing.assert_array_equal(tokens, recorded["random_mask/tokens"])
    assert allowed[tokens].all()


def test_the_text_ends_at_the_end_mark_and_zeros_follow(tiny, recorded, inputs):
    tokens = decode(
        tiny,
        inputs["three_cameras"],
        allowed=recorded["eos/masked/vocab_mask"],
        eos=int(recorded["eos/masked/eos_as"]),
    )
    np.testing.assert_array_equal(tokens, recorded["eos/masked/tokens"])
    assert tokens[-1] == 0


@pytest.mark.parametrize("block", [1, 3, 7, 50])
@pytest.mark.parametrize("case", ["to the last token", "end mark", "end mark at once"])
def test_a_text_in_blocks_is_the_same_text(tiny, recorded, inputs, case, block):
    masked = {"to the last token": "vocab_mask", "end mark": "eos/masked/vocab_mask"}
    allowed = recorded[masked.get(case, "vocab_mask")]
    eos = {"end mark": "eos/masked/eos_as", "end mark at once": "eos/immediate/eos_as"}
    eos = int(recorded[eos[case]]) if case in eos else 1
    given = inputs["three_cameras"]
    arch, weights = tiny
    head = words.cut_head(weights, jnp.asarray(allowed))
    embedded = words.embed(arch, weights, given)
    text = words.begin(arch, weights, head, embedded, eos=jnp.int32(eos), max_tokens=MAX_TOKENS)
    lengths = []
    for _ in range(1, MAX_TOKENS, block):
        text = words.go_on(arch, weights, head, text, eos=jnp.int32(eos), tokens=jnp.int32(block))
        lengths.append(int(text.length))
    whole = decode(tiny, given, allowed=allowed, eos=eos)
    np.testing.assert_array_equal(np.asarray(text.ids)[0], whole)
    if case == "to the last token":
        assert lengths == [min(1 + n * block, MAX_TOKENS) for n in range(1, len(lengths) + 1)]
        assert lengths[-1] == MAX_TOKENS


class Turns:
    """Counts the turns of a model, and finds one inside another."""

    def __init__(self):
        self.taken = []
        self.is_open = False

    @contextlib.contextmanager
    def __call__(self, program):
        assert not self.is_open
        self.is_open = True
        self.taken.append(program)
        yield
        self.is_open = False


def test_each_program_of_a_planner_has_its_own_turn(tiny_leaves, tokenizer):
    tree = orbax.nest(tiny_leaves("pi05"))["params"]
    model = JaxTokenModel(tree, check_tree(tiny_leaves("pi05"), "tiny"), max_tokens=8, block=3)
    whole = JaxTokenModel(tree, check_tree(tiny_leaves("pi05"), "tiny"), max_tokens=8)
    libero = get_robot("libero")
    turns = Turns()
    subtask = SubtaskPlanner(model, tokenizer, libero).plan_in_turns(
        libero.example_observation(), prompt="go", turn=turns
    )
    assert turns.taken == ["embed", "read", "decode", "decode", "decode"]
    expected = SubtaskPlanner(whole, tokenizer, libero).plan(
        libero.example_observation(), prompt="go"
    )
    assert subtask.text == expected.text


def test_an_end_mark_at_once_is_an_empty_text(tiny, recorded, inputs):
    tokens = decode(
        tiny,
        inputs["three_cameras"],
        allowed=recorded["vocab_mask"],
        eos=int(recorded["eos/immediate/eos_as"]),
    )
    np.testing.assert_array_equal(tokens, recorded["eos/immediate/tokens"])
    assert not tokens[1:].any()


def test_a_batch_says_what_each_row_says_alone(tiny, recorded, inputs):
    rows = [inputs["aloha_two_cameras"], inputs["no_images"]]
    both = join(rows)
    arch, weights = tiny
    head = words.cut_head(weights, jnp.asarray(recorded["vocab_mask"]))
    tokens = words.decode(arch, weights, head, both, jnp.int32(1), max_tokens=MAX_TOKENS)
    for case, row in zip(("aloha_two_cameras", "no_images"), np.asarray(tokens), strict=True):
        np.testing.assert_array_equal(row, recorded[f"{case}/masked/tokens"])


def test_a_missing_camera_is_masked_unless_it_shall_be_attended(tokenizer):
    observation = {"images": {"base_0_rgb": np.zeros((224, 224, 3), np.uint8)}}
    masked = SubtaskPlanner(RELEASED_SIZE, tokenizer, None)
    attended = SubtaskPlanner(RELEASED_SIZE, tokenizer, None, ATTENDED)
    given = masked.model_inputs(observation, prompt="go")
    assert given.image_mask.tolist() == [[True, False, False]]
    assert given.images.max() == 0
    assert attended.model_inputs(observation, prompt="go").image_mask.tolist() == [[True] * 3]


def test_a_masked_camera_changes_nothing_but_costs_a_place(tiny, tokenizer, recorded):
    """Dropping a camera that is not there gives the words of masking it."""
    observation = get_robot("libero").example_observation()
    libero = SubtaskPlanner(RELEASED_SIZE, tokenizer, get_robot("libero"))
    given = libero.model_inputs(observation, prompt="open the drawer")
    assert given.images.shape[1] == 2
    padded = dataclasses.replace(
        given,
        images=np.concatenate([given.images, np.zeros_like(given.images[:, :1])], axis=1),
        image_mask=np.array([[True, True, False]]),
    )
    allowed = recorded["vocab_mask"]
    np.testing.assert_array_equal(
        decode(tiny, given, allowed=allowed),
        decode(tiny, padded, allowed=allowed),
    )


def test_a_planner_whose_numbers_are_not_finite_says_so(tiny_leaves, tokenizer):
    leaves = tiny_leaves("pi05")
    final = ("params", "PaliGemma", "llm", "final_norm", "scale")
    leaves[final] = leaves[final] * np.nan
    tree = orbax.nest(leaves)["params"]
    model = JaxTokenModel(tree, check_tree(leaves, "tiny"), max_tokens=3)
    planner = SubtaskPlanner(model, tokenizer, get_robot("libero"))
    with pytest.raises(ModelOutputError, match="logits are not finite"):
        planner.plan(get_robot("libero").example_observation(), prompt="go")


@pytest.mark.parametrize("block", [None, 2])
def test_nothing_is_compiled_after_the_warm_up(tiny_leaves, tokenizer, block):
    leaves = tiny_leaves("pi05")
    tree = orbax.nest(leaves)["params"]
    model = JaxTokenModel(tree, check_tree(leaves, "tiny"), max_tokens=4, block=block)
    planner = SubtaskPlanner(model, tokenizer, get_robot("libero"))
    planner.warm_up()
    before = [program._cache_size() for program in PROGRAMS]
    for prompt in ("go", "open the drawer " * 3, "open the drawer " * 20):
        planner.plan(get_robot("libero").example_observation(), prompt=prompt)
    assert [program._cache_size() for program in PROGRAMS] == before


def test_a_planner_loads_from_a_checkpoint_and_plans(data, tiny_checkpoint, tmp_path, recorded):
    shutil.copytree(tiny_checkpoint / "params", tmp_path / "params")
    shutil.copy(data / "paligemma_tokenizer.model", tmp_path)
    planner = load_planner(tmp_path, robot="aloha", max_generation_tokens=4, dtype="float32")
    images = {name: recorded[f"image/{name}"] for name in ("cam_high", "cam_left_wrist")}
    subtask = planner.plan({"images": images}, prompt="fold the towel")
    assert subtask.text
    assert subtask.ms > 0
    with pytest.raises(ObservationError, match="images/cam_high: missing"):
        planner.plan({"images": {}}, prompt="fold the towel")


def test_without_a_robot_no_image_is_ignored(tokenizer):
    planner = SubtaskPlanner(RELEASED_SIZE, tokenizer, None)
    image = np.zeros((224, 224, 3), np.uint8)
    for key in ("observation/image", "observation.images.top", "base_0_rgb"):
        with pytest.raises(ObservationError, match=f"^{key}: .*set planner.robot"):
            planner.plan({key: image, "images": {"base_0_rgb": image}}, prompt="go")
    with pytest.raises(ObservationError, match="images/cam_high: no such camera"):
        planner.plan({"images": {"cam_high": image}}, prompt="go")


@pytest.mark.parametrize("named", [".", "params", "link"])
def test_a_planner_may_be_named_by_its_params(named, data, tiny_checkpoint, tmp_path):
    checkpoint = tmp_path / "pi05_base"
    shutil.copytree(tiny_checkpoint / "params", checkpoint / "params")
    shutil.copy(data / "paligemma_tokenizer.model", checkpoint)
    (checkpoint / "link").symlink_to(checkpoint / "params")
    planner = load_planner(checkpoint / named, robot="libero", max_generation_tokens=2)
    assert planner.checkpoint.name == "pi05_base"
    assert planner.plan(get_robot("libero").example_observation(), prompt="go").ms > 0


def test_a_params_directory_of_another_name_is_told_how_to_be_named(tiny_checkpoint, tmp_path):
    shutil.copytree(tiny_checkpoint / "params", tmp_path / "weights")
    with pytest.raises(CheckpointError, match=f"move it to {tmp_path}/weights/params, and give"):
        load_planner(tmp_path / "weights")


def test_cameras_are_the_models():
    assert CAMERAS == ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")

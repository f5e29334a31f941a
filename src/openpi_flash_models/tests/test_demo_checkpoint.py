"""The demo checkpoint: openpi's layout, an arm that moves smoothly, a planner that says words."""

import hashlib

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.demo.checkpoint import write_demo_checkpoint
from openpi_flash_models.demo.tokenizer import NUMBERS, WORDS
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.load import load_planner, load_policy
from openpi_flash_models.model.shape import check_tree
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer

HOME = np.array([0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.0])
MIDDLE = np.array([0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.5])
HALF_WIDTH = np.array([0.8, 0.4, 0.4, 0.5, 0.5, 0.6, 0.5])
PROMPTS = [
    "pick up the red cube",
    "open_the drawer 7 times; quickly. Subtask: move left 12 13",
    "x",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    write_demo_checkpoint(directory)
    return directory


@pytest.fixture(scope="module")
def policy(demo):
    return load_policy("pi05_sim_arm", demo / "action", dtype="float32")


@pytest.fixture(scope="module")
def planner(demo):
    return load_planner(demo / "planner", robot="sim_arm", dtype="float32")


def picture(seed):
    """Seven by seven coloured squares."""
    squares = np.random.default_rng(seed).integers(0, 256, (7, 7, 3))
    return np.kron(squares, np.ones((32, 32, 1))).astype(np.uint8)


def observation(state=HOME, *, seed=0, prompt="pick up the red cube"):
    return {
        "observation/scene_image": picture(seed),
        "observation/wrist_image": picture(seed + 1000),
        "observation/state": np.asarray(state, np.float32),
        "prompt": prompt,
    }


@pytest.mark.parametrize("part", ["action", "planner"])
def test_each_part_is_a_pi05_checkpoint_without_a_constant_tensor(demo, part):
    leaves = orbax.read_leaves(demo / part / "params")
    check_tree(leaves, part)
    for path, leaf in leaves.items():
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()
        assert leaf.std() > 0, f"{'/'.join(path)} is constant"


def test_orbax_restores_what_is_written(demo):
    directory = demo / "action" / "params"
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(directory).item_metadata.tree
    args = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(restore_type=np.ndarray), tree)
    restored = checkpointer.restore(directory, ocp.args.PyTreeRestore(item=tree, restore_args=args))
    ours = orbax.nest(orbax.read_leaves(directory))
    assert jax.tree.structure(restored) == jax.tree.structure(ours)
    jax.tree.map(np.testing.assert_array_equal, restored, ours)


def test_the_same_is_written_every_time(demo, tmp_path):
    write_demo_checkpoint(tmp_path)
    for part in ("action", "planner"):
        assert digest(tmp_path / part) == digest(demo / part)


def digest(checkpoint):
    sha = hashlib.sha256((checkpoint / "paligemma_tokenizer.model").read_bytes())
    leaves = orbax.read_leaves(checkpoint / "params")
    for path in sorted(leaves):
        sha.update("/".join(path).encode() + leaves[path].tobytes())
    return sha.hexdigest()


def test_it_is_small(demo):
    size = sum(file.stat().st_size for file in demo.rglob("*") if file.is_file())
    assert size < 10e6


def test_a_checkpoint_that_is_there_is_not_overwritten(demo):
    with pytest.raises(CheckpointError, match="holds a checkpoint already"):
        write_demo_checkpoint(demo)


def test_every_bin_number_is_one_token_and_text_survives_the_tokenizer(demo):
    tokenizer = PaligemmaTokenizer(demo / "action" / "paligemma_tokenizer.model")
    bos, prefix = 1, len(tokenizer_ids(tokenizer, "State:")) - 1
    for number in NUMBERS:
        assert len(tokenizer_ids(tokenizer, f"State: {number}")) == bos + prefix + 1
    text = "Task: café ☃, put_it there 7x!, State: 128 0 -1;\nAction: "
    assert tokenizer.decode(np.array(tokenizer_ids(tokenizer, text)[1:])).strip() == text.strip()


def tokenizer_ids(tokenizer, text):
    tokens = tokenizer.encode(text, 200)
    return tokens.ids[tokens.mask].tolist()


def test_a_chunk_starts_at_the_arm_and_moves_smoothly_inside_the_box(policy):
    generator = np.random.default_rng(3)
    for case in range(8):
        where = generator.uniform(-1, 1, 7)
        if case < 4:
            where = np.sign(where)  # corners of the box
        state = MIDDLE + HALF_WIDTH * where
        prompt = PROMPTS[case % len(PROMPTS)]
        actions = policy.infer(observation(state, seed=case, prompt=prompt)).actions
        assert actions.shape == (50, 7)
        assert np.abs(actions[0] - state).max() < 0.08
        assert np.abs(np.diff(actions, 2, axis=0)).max() < 0.003
        assert np.abs((actions - MIDDLE) / HALF_WIDTH).max() <= 1.0


def test_the_first_chunk_moves_several_joints_visibly(policy):
    actions = policy.infer(observation()).actions
    moved = np.abs(actions[-1] - actions[0])
    assert (moved > 0.15).sum() >= 4
    assert moved.max() < 0.8


def test_noise_is_denoised_away(policy):
    chunks = [
        policy.infer(observation(), InferenceControls(seed=seed, num_steps=steps)).actions
        for seed, steps in ((1, 10), (2, 10), (3, 5))
    ]
    for other in chunks[1:]:
        assert 0 < np.abs(other - chunks[0]).max() < 0.01


def test_pictures_words_and_state_each_change_the_chunk(policy):
    base = policy.infer(observation(), InferenceControls(seed=1)).actions
    others = [
        observation(seed=7),
        observation(prompt="open the drawer"),
        observation(HOME + 0.1),
    ]
    for other in others:
        chunk = policy.infer(other, InferenceControls(seed=1)).actions
        assert np.abs(chunk - base).max() > 0.004


def test_in_closed_loop_the_arm_keeps_moving_and_chunks_meet_without_a_jump(policy):
    state, visited = HOME, []
    for replan in range(28):
        actions = policy.infer(observation(state, seed=replan // 7)).actions
        assert np.abs(actions[0] - state).max() < 0.05
        visited.extend(actions[:10])
        state = actions[10]
    later = np.array(visited)[80:]
    travelled = later.max(axis=0) - later.min(axis=0)
    assert (travelled[:6] > 0.2).all()


def test_the_planner_says_words_and_stops(planner):
    known = set(WORDS)
    texts = {
        planner.plan(observation(seed=seed), prompt=prompt).text
        for seed in range(3)
        for prompt in ("pick up the red cube", "open the drawer")
    }
    assert len(texts) >= 4
    for text in texts:
        words = text.split()
        assert words
        assert set(words) <= known
    assert any(len(text.split()) < 10 for text in texts)

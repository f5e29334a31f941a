"""New parameters have openpi's distributions."""

import jax
import numpy as np
import pytest
from micro import micro_shape
from openpi_reference import flat

from openpi_flash_models.model.shape import check_tree
from openpi_flash_training.train.initialize import init_params, smooth_numbers

SHAPE = micro_shape(
    "pi05",
    vision_width=32,
    vision_depth=2,
    vision_mlp=48,
    width=64,
    mlp=96,
    heads=4,
    key_heads=2,
    head_width=16,
    expert_width=32,
    expert_mlp=64,
    vocabulary=256,
    action_dim=16,
)
# threefry, the default, takes long to compile for so many leaves
KEY = jax.random.key(0, impl="rbg")
LLM, BLOCK = "PaliGemma/llm/layers", "PaliGemma/img/Transformer/encoderblock"
ATTENTION = f"{BLOCK}/MultiHeadDotProductAttention_0"


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda key: init_params(SHAPE, key))(KEY)


def test_the_tree_is_a_checkpoints(params):
    leaves = {("params", *path.split("/")): leaf for path, leaf in flat(params).items()}
    assert check_tree(leaves, "new") == SHAPE
    assert {leaf.dtype for leaf in leaves.values()} == {np.dtype(np.float32)}


DEVIATIONS = {
    # 1 / sqrt(what is summed over)
    f"{LLM}/attn/q_einsum/w": 64**-0.5,
    f"{LLM}/attn/kv_einsum_1/w": 32**-0.5,
    f"{LLM}/attn/attn_vec_einsum/w": (4 * 16) ** -0.5,
    f"{LLM}/mlp/gating_einsum": 64**-0.5,
    f"{LLM}/mlp_1/linear": 64**-0.5,
    "action_in_proj/kernel": 16**-0.5,
    "PaliGemma/img/embedding/kernel": (56 * 56 * 3) ** -0.5,
    "PaliGemma/llm/embedder/input_embedding": 0.01,
    "PaliGemma/img/pos_embedding": 32**-0.5,
    # uniform with the variance 2 / (inputs + outputs)
    f"{ATTENTION}/query/kernel": (2 / 64) ** 0.5,
    f"{ATTENTION}/out/kernel": (2 / 64) ** 0.5,
    f"{BLOCK}/MlpBlock_0/Dense_0/kernel": (2 / 80) ** 0.5,
    f"{BLOCK}/MlpBlock_0/Dense_1/bias": 1e-6,
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_leaves_have_openpis_deviations(name, params):
    leaf = flat(params)[name].astype(np.float64)
    error = 4 / np.sqrt(leaf.size)
    np.testing.assert_allclose(leaf.std(), DEVIATIONS[name], rtol=error)
    assert abs(leaf.mean()) < error * DEVIATIONS[name]
    largest = np.abs(leaf).max() / DEVIATIONS[name]
    if "img/Transformer" in name and "kernel" in name:
        assert largest < 3**0.5 + 0.05, "uniform"
    elif DEVIATIONS[name] not in (0.01, 32**-0.5, 1e-6):
        assert largest < 2.28, "normal, cut at two deviations"
    if leaf.ndim > 2 and "layers" in name:
        assert np.abs(leaf[0] - leaf[1]).max() > 0


def test_what_openpi_begins_with_at_zero_or_one(params):
    leaves = flat(params)
    for name, leaf in leaves.items():
        if name.endswith("/scale"):
            assert (leaf == (1 if "/img/" in name else 0)).all(), name
        if "Dense_0" in name and "/llm/" in name:
            assert not leaf.any(), name
        if name.endswith("/bias") and "MlpBlock" not in name:
            assert not leaf.any(), name
    assert not leaves["PaliGemma/img/head/kernel"].any()


def test_a_start_from_scratch_has_open_gates_and_sees():
    make = jax.jit(lambda key: init_params(SHAPE, key, from_scratch=True))
    leaves = flat(make(KEY))
    assert leaves["PaliGemma/img/head/kernel"].std() > 0.1
    scale, shift, gate = np.split(leaves[f"{LLM}/pre_ffw_norm_1/Dense_0/bias"], 3, axis=-1)
    assert not scale.any()
    assert not shift.any()
    assert (gate == 1).all()
    assert not leaves["PaliGemma/llm/final_norm_1/Dense_0/bias"].any(), "its gate is not read"


def test_numbers_are_alike_the_nearer_they_are(params):
    ids = tuple(range(20, 60))
    made = smooth_numbers(params, ids)["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    before = params["PaliGemma"]["llm"]["embedder"]["input_embedding"]
    rows, others = np.array(made)[20:60], np.delete(np.array(made), ids, 0)
    distances = np.linalg.norm(rows - rows[0], axis=1)
    assert (np.diff(distances[:4]) > 0).all()
    assert rows.std() == pytest.approx(0.01, rel=0.1)
    np.testing.assert_array_equal(others, np.delete(np.array(before), ids, 0))
    assert smooth_numbers(params, ()) == params


def test_a_leaf_depends_on_its_name_and_key_alone(params):
    other = jax.eval_shape(lambda key: init_params(micro_shape("pi0"), key), KEY)
    assert "state_proj" in other
    wider = micro_shape("pi0_fast", width=64, heads=4, head_width=16, vocabulary=256)
    same = jax.jit(lambda key: init_params(wider, key)["PaliGemma"]["llm"]["embedder"])
    table = same(KEY)["input_embedding"]
    np.testing.assert_array_equal(table, flat(params)["PaliGemma/llm/embedder/input_embedding"])

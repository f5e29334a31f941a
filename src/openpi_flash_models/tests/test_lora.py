"""Merged adapters give what openpi computes with adapters."""

import ml_dtypes
import numpy as np
import pytest

from openpi_flash_models.checkpoints.lora import LoraScaling, has_lora, merge_lora
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.shape import check_tree

ATTENTION = ("params", "PaliGemma", "llm", "layers", "attn")


@pytest.fixture(scope="module")
def recorded(data):
    return dict(np.load(data / "tiny_lora_outputs.npz"))


@pytest.fixture(scope="module")
def run(openpi, build):
    given = openpi("pi05")

    def act(leaves, steps=10, dtype="float32"):
        return build(leaves, dtype).act(given.inputs, given.noise, steps)

    return act


@pytest.mark.parametrize("steps", [1, 10])
def test_merged_adapters_give_openpis_actions(steps, run, tiny_leaves, recorded):
    leaves = tiny_leaves("lora")
    assert has_lora(leaves)
    merged = merge_lora(leaves, "tiny")
    assert not has_lora(merged)
    check_tree(merged, "tiny")
    np.testing.assert_allclose(run(merged, steps), recorded[f"actions_{steps}"], rtol=0, atol=2e-5)
    plain = recorded["actions_10_plain_variant"]
    assert np.abs(plain - recorded["actions_10"]).max() > 0.1  # adapters that do something


@pytest.mark.parametrize(
    ("scaling", "name"),
    [
        (LoraScaling(language=8 / 4, expert=4 / 8), "actions_10_alpha8_alpha4"),
        (LoraScaling(language=4 / 4**0.5, expert=8 / 8**0.5), "actions_10_rslora"),
    ],
)
def test_the_scale_applies_to_attention_only(scaling, name, run, tiny_leaves, recorded):
    merged = merge_lora(tiny_leaves("lora"), "tiny", scaling)
    np.testing.assert_allclose(run(merged), recorded[name], rtol=0, atol=2e-5)


def test_bfloat16_adapters_stay_close_to_openpis(run, tiny_leaves, recorded):
    actions = run(merge_lora(tiny_leaves("lora"), "tiny"), dtype="bfloat16")
    expected = recorded["actions_10_bfloat16"]
    assert np.abs(actions - expected).max() < 0.03 * np.abs(expected).max()


def test_a_tree_of_mixed_dtypes_merges_without_loss(run, tiny_leaves, recorded):
    leaves = tiny_leaves("lora_trained")
    weight, adapter = (*ATTENTION, "q_einsum", "w"), (*ATTENTION, "q_einsum", "lora_a")
    assert leaves[weight].dtype == ml_dtypes.bfloat16
    assert leaves[adapter].dtype == np.float32
    merged = merge_lora(leaves, "trained")
    assert merged[weight].dtype == np.float32
    embedding = ("params", "PaliGemma", "llm", "embedder", "input_embedding")
    assert merged[embedding].dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(run(merged), recorded["actions_10_as_trained"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("missing", ["lora_a", "lora_b", "w"])
def test_half_an_adapter_is_refused(missing, tiny_leaves):
    leaves = tiny_leaves("lora")
    del leaves[(*ATTENTION, "q_einsum", missing)]
    with pytest.raises(CheckpointError, match="attn/q_einsum/"):
        check_tree(merge_lora(leaves, "tiny"), "tiny")


def test_an_adapter_of_another_shape_is_refused(tiny_leaves):
    leaves = tiny_leaves("lora")
    path = (*ATTENTION, "q_einsum", "lora_b")
    leaves[path] = leaves[path][..., :-1]
    with pytest.raises(CheckpointError, match="does not fit"):
        merge_lora(leaves, "tiny")

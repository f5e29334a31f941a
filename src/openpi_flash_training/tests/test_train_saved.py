"""What of a training state is saved where: adapters, heads of extra losses, the running mean."""

import jax
import ml_dtypes
import numpy as np
import pytest
from toy_model import MASK, params, recipe
from train_runs import Silent, small_settings

from openpi_flash_models.checkpoints.orbax import read_leaves
from openpi_flash_models.load import read_tree
from openpi_flash_training.train.extra_losses import HEADS
from openpi_flash_training.train.run import train
from openpi_flash_training.train.saved_tree import loaded_state, saved_params, saved_train_state
from openpi_flash_training.train.step import TrainState, init_state


@pytest.mark.parametrize("ema", [None, 0.9])
def test_heads_of_extra_losses_are_kept_apart_from_what_is_served(ema):
    head = {"detection": {"kernel": np.ones((2, 3), np.float32)}}
    made = recipe(ema_decay=ema, mask=MASK | {HEADS: {"detection": {"kernel": True}}})
    state = init_state(params() | {HEADS: head}, made)
    if ema is not None:
        state = TrainState(
            state.step, state.params, state.opt_state, jax.tree.map(lambda x: x + 1, state.ema)
        )
    served, rest = saved_params(state), saved_train_state(state)
    assert HEADS not in served["params"]
    back = loaded_state(served, rest, state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("quick_model")
def test_a_checkpoint_with_adapters_is_merged_where_it_is_served(tmp_path):
    adapters = {"rank": 2, "alpha": 2}
    settings = small_settings(
        tmp_path,
        model={"lora": {"language": adapters, "expert": adapters}},
        optimizer={"ema_decay": None},
        run={"steps": 2},
    )
    train(settings, Silent())
    step = tmp_path / "run/1"
    leaves = read_leaves(step / "params")
    attention = ("params", "PaliGemma", "llm", "layers", "attn", "q_einsum")
    assert leaves[(*attention, "w")].dtype == ml_dtypes.bfloat16  # frozen
    assert leaves[(*attention, "lora_a")].dtype == np.float32
    tree, _ = read_tree(step, kind="pi05", dtype="float32")
    weights, a, b = (leaves[(*attention, name)] for name in ("w", "lora_a", "lora_b"))
    merged = weights.astype(np.float32) + a @ b
    found = tree["PaliGemma"]["llm"]["layers"]["attn"]["q_einsum"]["w"]
    assert np.abs(found - merged).max() < 1e-6
    moments = (step / "train_state/_METADATA").read_text()
    assert "('opt_state', '1', '0', 'mu', 'action_in_proj', 'kernel', 'value')" in moments
    assert "'mu', 'PaliGemma', 'llm', 'layers', 'attn', 'q_einsum', 'w'" not in moments

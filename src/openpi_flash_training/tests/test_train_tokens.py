"""The cross entropy of pi0-FAST's tokens is openpi's, and the subtask's is the planner's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from openpi_reference import (
    FAST_CAMERAS,
    counted,
    flat,
    leaves_of,
    norms,
    observation,
    recorded,
    tiny_tree,
)
from tiny_batch import CAMERAS, SHAPE, tiny_batch, tiny_params

from openpi_flash_models.jax_models import decode
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.weights import lay_out
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_training.train.batch import Tokens
from openpi_flash_training.train.forward import build_model, see
from openpi_flash_training.train.losses import LossSettings, loss
from openpi_flash_training.train.token_loss import token_loss


@pytest.fixture(scope="module")
def given():
    return recorded("training_fast")


def batch_of(given, case):
    batch = observation("pi0_fast")
    masks = {camera: np.ones(2, bool) for camera in FAST_CAMERAS}
    if case == "masked_camera":
        masks["wrist_0_rgb"] = given["masked_camera/image_mask/wrist_0_rgb"]
    loss_mask = given["token_loss_mask"]
    if case == "no_loss_row":
        loss_mask = given["no_loss_row/token_loss_mask"]
    prompt = Tokens(
        given["tokenized_prompt"],
        given["tokenized_prompt_mask"],
        given["token_ar_mask"],
        loss_mask,
    )
    return dataclasses.replace(batch, image_masks=masks, prompt=prompt)


@jax.jit
def gradient(params, batch):
    _, shape = tiny_tree("pi0_fast")

    def mean(params):
        model = build_model(params, shape, dtype="float32", lora=None, remat=False, unroll=True)
        images = jnp.stack([jnp.asarray(batch.images[name]) for name in FAST_CAMERAS], axis=1)
        mask = jnp.stack([batch.image_masks[name] for name in FAST_CAMERAS], axis=1)
        found = token_loss(model, see(model, images, mask), batch.prompt, plain_positions=True)
        return found.loss.mean(), found

    return jax.value_and_grad(mean, has_aux=True)(params)


@pytest.mark.parametrize("case", ["valid", "masked_camera", "no_loss_row"])
def test_the_loss_and_its_gradient_are_openpis(case, given):
    params, _ = tiny_tree("pi0_fast")
    (mean, found), made = gradient(params, batch_of(given, case))
    np.testing.assert_allclose(found.loss, given[f"{case}/loss"], rtol=1e-5)
    np.testing.assert_allclose(mean, given[f"{case}/loss_mean"], rtol=1e-5)
    seen = given["tokenized_prompt_mask"][:, 1:]
    expected = given[f"{case}/token_logp"]
    np.testing.assert_allclose(found.log_probability[seen], expected[seen], atol=1e-4)
    names = given["leaf_names"].tolist()
    used = counted(names)
    expected = given[f"{case}/grad_norm"]
    np.testing.assert_allclose(norms(made, names)[used], expected[used], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(optax.tree.norm(made), given[f"{case}/global_norm"], rtol=1e-4)
    if case == "valid":
        for leaf, values in leaves_of(given, "valid/grad").items():
            np.testing.assert_allclose(flat(made)[leaf], values, atol=1e-5, err_msg=leaf)
        rows = flat(made)["PaliGemma/llm/embedder/input_embedding"][given["embedding_rows"]]
        np.testing.assert_allclose(rows, given["valid/grad_embedding_rows"], atol=1e-5)


def test_a_batch_is_the_mean_over_rows_with_and_without_loss(given):
    params, shape = tiny_tree("pi0_fast")
    settings = LossSettings(shape, cameras=FAST_CAMERAS)
    total, parts = jax.jit(loss, static_argnames="settings")(
        params, batch_of(given, "no_loss_row"), jax.random.key(0), settings=settings
    )
    np.testing.assert_allclose(total, given["no_loss_row/loss_mean"], rtol=1e-5)
    assert set(parts) == {"token_loss", "token_accuracy"}
    assert 0 <= float(parts["token_accuracy"]) <= 1


def test_the_subtask_loss_is_of_the_logits_that_the_planner_decodes_by():
    batch, params = tiny_batch(), tiny_params()
    _, parts = jax.jit(loss, static_argnames="settings")(
        params, batch, jax.random.key(1), settings=LossSettings(SHAPE, cameras=CAMERAS)
    )
    arch = Arch(SHAPE, ALL_ON.graph)
    weights = lay_out(params, SHAPE, ALL_ON.layout)
    step = jax.jit(decode.decode_step, static_argnums=0)
    read = jax.jit(decode.read_prefix, static_argnums=(0, 3))
    head = decode.whole_head(weights)
    text = batch.subtask
    expected = []
    for row, end in enumerate(text.mask.sum(1)):
        inputs = ModelInputs(
            images=np.stack([batch.images[name][row : row + 1] for name in CAMERAS], axis=1),
            image_mask=np.stack(
                [batch.image_masks[name][row : row + 1] for name in CAMERAS], axis=1
            ),
            tokens=text.ids[row : row + 1, :4],
            token_mask=np.ones((1, 4), bool),
        )
        hidden, state = read(arch, weights, inputs, 8)
        slots, total = state.seen.shape[1] - 8, 0.0
        for place in range(4, end):
            scores = jax.nn.log_softmax(decode.logits(head, hidden))
            token = text.ids[row, place]
            total -= float(scores[0, token])
            hidden, state = step(
                arch, weights, state, jnp.array([token]), jnp.int32(slots + place - 4)
            )
        expected.append(total / (end - 4))
    np.testing.assert_allclose(parts["subtask_loss"], np.mean(expected), rtol=1e-5)


def test_subtask_and_actions_are_weighted_and_do_not_see_each_other():
    batch, params = tiny_batch(), tiny_params()
    key, run = jax.random.key(1), jax.jit(loss, static_argnames="settings")
    settings = LossSettings(SHAPE, cameras=CAMERAS, subtask_weight=0.25)
    total, parts = run(params, batch, key, settings=settings)
    together = parts["flow_loss"] + 0.25 * parts["subtask_loss"]
    np.testing.assert_allclose(total, together, rtol=1e-6)
    alone, _ = run(params, dataclasses.replace(batch, subtask=None), key, settings=settings)
    np.testing.assert_allclose(alone, parts["flow_loss"], rtol=1e-6)

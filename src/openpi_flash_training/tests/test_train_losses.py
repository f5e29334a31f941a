"""Losses beyond openpi's: several samples, actions that are given, extra heads, and all at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from openpi_reference import flat
from tiny_batch import CAMERAS, HORIZON, SHAPE, tiny_batch, tiny_params

from openpi_flash_models.jax_models import suffix
from openpi_flash_models.jax_models.flops import count
from openpi_flash_models.model.shape import check_tree
from openpi_flash_training.train.augment import SHIFT_ONLY
from openpi_flash_training.train.batch import Batch
from openpi_flash_training.train.extra_losses import (
    HEADS,
    ExtraLosses,
    add_heads,
    detection_loss,
    position_loss,
    without_heads,
)
from openpi_flash_training.train.flow_loss import FlowSample, draw_samples, flow_loss
from openpi_flash_training.train.forward import build_model, read_text, see
from openpi_flash_training.train.losses import LossSettings, loss

EXTRA = ExtraLosses(objects=2, coordinates=3, detection_weight=0.5, position_weight=2.0)
SETTINGS = LossSettings(SHAPE, cameras=CAMERAS, unroll=True)
run = jax.jit(loss, static_argnames="settings")


def prefix_of(params, batch):
    model = build_model(params, SHAPE, dtype="float32", lora=None, remat=False, unroll=True)
    images = jnp.stack([batch.images[camera] for camera in CAMERAS], axis=1)
    mask = jnp.stack([batch.image_masks[camera] for camera in CAMERAS], axis=1)
    return model, read_text(model, see(model, images, mask), batch.prompt, None)[1]


@jax.jit
def errors_of(params, batch, samples):
    model, prefix = prefix_of(params, batch)
    return flow_loss(model, prefix, None, batch.actions, samples, has_delay=True)


def test_actions_that_are_given_are_clean_and_have_no_loss():
    """Against the sampler's own way to give frozen actions to the model."""
    params, batch = tiny_params(), tiny_batch(3)
    sample = draw_samples(jax.random.key(0), batch.actions.shape, 1, 0)
    delay = np.array([[0, 2, 4]], np.int32)
    sample = sample._replace(delay=delay)
    found = np.asarray(errors_of(params, batch, sample)[0])

    @jax.jit
    def expected(params):
        model, prefix = prefix_of(params, batch)
        context = suffix.context_of(*model, prefix, None)
        made = []
        for row in range(3):
            frozen = jnp.broadcast_to(jnp.arange(HORIZON) < delay[0, row], (3, HORIZON))
            times = jnp.array([0.0, sample.time[0, row]])
            features = suffix.time_features(*model, times)
            now = suffix.where(frozen, suffix.at_time(features, 0), suffix.at_time(features, 1))
            x = times[1] * sample.noise[0] + (1 - times[1]) * batch.actions
            x = jnp.where(frozen[..., None], batch.actions, x)
            velocity = suffix.velocity(*model, context, x, now)
            errors = jnp.square(velocity - (sample.noise[0] - batch.actions)).mean(-1)
            made.append(jnp.where(frozen, 0.0, errors)[row])
        return jnp.stack(made)

    expected = np.asarray(expected(params))
    np.testing.assert_allclose(found * (HORIZON - delay[0][:, None]) / HORIZON, expected, atol=1e-5)
    assert not found[1, :2].any()
    assert (found[2, 4:] > 0).all()
    # the mean of a row is the mean over the actions that have a loss
    np.testing.assert_allclose(found.mean(1)[1], expected[1, 2:].mean(), rtol=1e-5)
    # noise of the actions that are given is not seen
    noise = sample.noise.at[0, 1, :2].add(1.0)
    same = errors_of(params, batch, sample._replace(noise=noise))
    np.testing.assert_array_equal(same[0], found)


def test_delays_are_drawn_from_none_to_the_largest():
    samples = draw_samples(jax.random.key(0), (400, HORIZON, 1), 2, 3)
    delay = np.asarray(samples.delay)
    assert delay.shape == (2, 400)
    assert np.bincount(delay.ravel(), minlength=4).min() > 140
    assert len(np.bincount(delay.ravel())) == 4


def test_samples_share_an_observation():
    params, batch = tiny_params(), tiny_batch()
    samples = draw_samples(jax.random.key(0), batch.actions.shape, 3, 2)
    together = errors_of(params, batch, samples)
    for which in range(3):
        one = FlowSample(*(part[which : which + 1] for part in samples))
        np.testing.assert_allclose(errors_of(params, batch, one)[0], together[which], atol=1e-5)

    def operations(samples):
        settings = dataclasses.replace(SETTINGS, flow_samples=samples)
        plain = dataclasses.replace(batch, subtask=None, labels=None)
        return count(functools.partial(loss, settings=settings), params, plain, jax.random.key(0))

    once, twice, thrice = (operations(samples) for samples in (1, 2, 3))
    assert thrice - twice == twice - once
    assert twice < 1.2 * once, "images and prompt are read once"


def test_all_losses_at_once_reach_every_leaf():
    params, batch = tiny_params(), tiny_batch(4)
    params = add_heads(params, SHAPE, EXTRA, jax.random.key(0))
    settings = dataclasses.replace(
        SETTINGS,
        augment=SHIFT_ONLY,
        flow_samples=2,
        max_delay=2,
        subtask_weight=0.25,
        extra=EXTRA,
    )
    step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnames="settings")
    (total, parts), made = step(params, batch, jax.random.key(1), settings=settings)
    weights = {
        "flow_loss": 1.0,
        "subtask_loss": 0.25,
        "detection_loss": 0.5,
        "position_loss": 2.0,
    }
    expected = sum(weight * parts[name] for name, weight in weights.items())
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert set(parts) == {*weights, "subtask_accuracy", "detection_accuracy"}
    # a softmax ignores what is the same for all keys
    gradients = {path: leaf for path, leaf in flat(made).items() if "/key/bias" not in path}
    for path, leaf in gradients.items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-7, path
    again = step(params, batch, jax.random.key(1), settings=settings)[0]
    assert float(again[0]) == float(total)
    other = step(params, batch, jax.random.key(2), settings=settings)[0]
    assert float(other[0]) != float(total)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    params, batch = tiny_params(), tiny_batch(4)
    params = add_heads(params, SHAPE, EXTRA, jax.random.key(0))
    settings = dataclasses.replace(SETTINGS, extra=EXTRA)

    def of_rows(rows):
        return jax.tree.map(lambda array: array[rows], batch)

    names = ("subtask_loss", "detection_loss", "position_loss")
    whole = run(params, batch, jax.random.key(0), settings=settings)[1]
    halves = [
        run(params, of_rows(rows), jax.random.key(0), settings=settings)[1]
        for rows in (slice(0, 2), slice(2, 4))
    ]
    for name in names:
        mean = np.mean([half[name] for half in halves])
        np.testing.assert_allclose(whole[name], mean, rtol=1e-5, err_msg=name)


def test_a_checkpoint_for_serving_holds_no_training_heads():
    params = add_heads(tiny_params(), SHAPE, EXTRA, jax.random.key(0))
    assert params[HEADS]["detection"]["kernel"].shape == (16, 6)
    assert params[HEADS]["position"]["kernel"].shape == (16, 3)
    left = without_heads(params)
    leaves = {("params", *path.split("/")): leaf for path, leaf in flat(left).items()}
    assert check_tree(leaves, "trained") == SHAPE


def test_detection_is_counted_by_hand():
    """Four patches, two objects; the second object of the second row is out of view."""
    patches, width = 4, 3
    seen = np.random.default_rng(0).normal(size=(2, patches, width)).astype(np.float32)
    head = {
        "kernel": np.random.default_rng(1).normal(size=(width, 6)).astype(np.float32),
        "bias": np.zeros(6, np.float32),
    }
    points = np.array([[[[0.75, 0.1], [0.2, 0.6]]], [[[0.1, 0.1], [np.nan, 0.4]]]], np.float32)
    found, share = jax.jit(detection_loss)(head, seen, points, np.ones((2, 1), bool))
    out = (seen @ head["kernel"]).reshape(2, patches, 2, 3)
    cells, places = [[1, 2], [0]], [[[0.5, 0.2], [0.4, 0.2]], [[0.2, 0.2]]]
    rows, hits = [], []
    for row in range(2):
        errors = []
        for which, cell in enumerate(cells[row]):
            scores = out[row, :, which, 0]
            errors.append(np.log(np.exp(scores).sum()) - scores[cell])
            errors[-1] += np.square(out[row, cell, which, 1:] - places[row][which]).sum()
            hits.append(scores.argmax() == cell)
        rows.append(np.mean(errors))
    np.testing.assert_allclose(found, np.mean(rows), rtol=1e-5)
    np.testing.assert_allclose(share, np.mean(hits))
    nothing, _ = jax.jit(detection_loss)(head, seen, points, np.zeros((2, 1), bool))
    assert float(nothing) == 0.0


def test_unknown_coordinates_have_no_loss():
    head = {"kernel": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}
    hidden = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    position = np.array([[0.0, np.nan], [1.0, 1.0]], np.float32)
    np.testing.assert_allclose(position_loss(head, hidden, position), (1 + (4 + 9) / 2) / 2)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"images": {"scene": np.zeros((2, 56, 56, 3))}}, {}, "no images of wrist, only of"),
        (
            {"images": dict.fromkeys(CAMERAS, np.zeros((2, 64, 56, 3)))},
            {},
            r"images of scene have shape \(2, 64, 56, 3\), the model reads \(2, 56, 56, 3\)",
        ),
        ({"actions": np.zeros((2, 5, 3))}, {}, "actions have 3 dimensions, the model 4"),
        ({}, {"max_delay": 5}, "max_delay is 5, expected 0 to 4"),
        ({"labels": {}}, {"extra": EXTRA}, "needs labels named 'points'"),
        ({}, {"extra": EXTRA}, "detection loss needs a head"),
    ],
)
def test_what_does_not_fit_is_named(change, settings, message):
    batch: Batch = dataclasses.replace(tiny_batch(), **change)
    settings = dataclasses.replace(SETTINGS, **settings)
    with pytest.raises(ValueError, match=message):
        loss(tiny_params(), batch, jax.random.key(0), settings=settings)

"""Images are changed as openpi's are, and points in them go along."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openpi_flash_training.train.augment import SHIFT_ONLY, AugmentSettings, augment

SIDE = 64
GEOMETRY = AugmentSettings(probability=0.0)
COLORS = AugmentSettings(crop=1.0, rotation=0.0, probability=1.0)


def changed(settings, images, points=None, *, camera="base_0_rgb", seed=0):
    run = jax.jit(partial(augment, settings, camera))
    return run(images, points, jax.random.key(seed))


def pictures(rows=4):
    return np.random.default_rng(0).uniform(-1, 1, (rows, 16, 16, 3)).astype(np.float32)


def blobs(points):
    """A white spot on black at each point [B, 1, 2]."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    away = [np.square(columns - x * SIDE) + np.square(rows - y * SIDE) for x, y in points[:, 0]]
    spots = np.exp(-np.stack(away) / 8)[..., None]
    return np.repeat(spots * 2 - 1, 3, axis=-1).astype(np.float32)


def centers(images):
    """Where the spots are, as shares of width and height."""
    weight = np.asarray(images)[..., 0] + 1
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    total = weight.sum((1, 2))
    x, y = (weight * columns).sum((1, 2)) / total, (weight * rows).sum((1, 2)) / total
    return np.stack([x, y], axis=-1) / SIDE


@pytest.mark.parametrize("settings", [GEOMETRY, SHIFT_ONLY], ids=["crop and turn", "shift"])
def test_points_stay_on_what_they_mark(settings):
    points = np.random.default_rng(0).uniform(0.3, 0.7, (12, 1, 2)).astype(np.float32)
    images, moved = changed(settings, blobs(points), points)
    np.testing.assert_allclose(centers(images), moved[:, 0], atol=0.2 / SIDE)
    travelled = np.abs(np.asarray(moved) - points).max(axis=(1, 2)) * SIDE
    assert (travelled > 0.5).sum() >= 8
    assert travelled.max() < 8


def test_a_crop_is_scaled_back():
    """A spot and another one: their distance grows by the share that was cut away."""
    still = dataclasses.replace(GEOMETRY, rotation=0.0)
    points = np.tile(np.array([[0.4, 0.5], [0.6, 0.5]], np.float32), (8, 1, 1))
    _, moved = changed(still, np.zeros((8, SIDE, SIDE, 3), np.float32), points)
    apart = np.diff(np.asarray(moved)[..., 0], axis=1)[:, 0]
    np.testing.assert_allclose(apart, 0.2 * SIDE / np.floor(SIDE * 0.95), rtol=1e-5)
    # the crop lies within the image
    middle = np.asarray(moved).mean(axis=1)
    assert np.abs(middle - 0.5).max() <= 0.5 * (SIDE / 60 - 1) + 1e-6


def test_a_wrist_camera_keeps_its_geometry():
    images = pictures()
    kept, _ = changed(GEOMETRY, images, camera="left_wrist_0_rgb")
    np.testing.assert_allclose(kept, images, atol=1e-6)
    turned, _ = changed(GEOMETRY, images)
    assert np.abs(turned - images).max() > 0.1


def test_colors_without_a_change_are_the_same():
    still = dataclasses.replace(COLORS, brightness=0.0, contrast=0.0, hue=0.0)
    images = pictures()
    kept, _ = changed(still, images)
    np.testing.assert_allclose(kept, images, atol=1e-5)


def test_half_of_the_images_keep_their_colors():
    images = pictures(64)
    found, _ = changed(dataclasses.replace(COLORS, probability=0.5), images)
    is_changed = np.abs(found - images).max(axis=(1, 2, 3)) > 1e-3
    assert 16 < is_changed.sum() < 48
    assert np.abs(found).max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("name", "largest"), [("brightness", 0.3), ("contrast", 0.4), ("hue", 0.1), ("saturation", 0.5)]
)
def test_each_change_is_of_its_own_kind(name, largest):
    only = dataclasses.replace(COLORS, brightness=0.0, contrast=0.0, hue=0.0, saturation=0.0, **{})
    only = dataclasses.replace(only, **{name: largest})
    images = pictures(16)
    found = np.asarray(changed(only, images)[0])
    before, after = images / 2 + 0.5, found / 2 + 0.5
    value = (before.max(-1), after.max(-1))
    assert np.abs(after - before).max() > 0.02
    if name in ("hue", "saturation"):
        np.testing.assert_allclose(value[1], value[0], atol=1e-5)
    else:
        order = np.argsort(before, axis=-1)
        sorted_after = np.take_along_axis(after, order, axis=-1)
        assert (np.diff(sorted_after, axis=-1) >= -1e-5).all(), "the hue stays"
    if name == "brightness":
        # towards black by a factor, or towards white by a share of what is left
        share = (value[1] - value[0]) / np.where(value[1] < value[0], value[0], 1 - value[0])
        assert np.abs(share).max() <= largest + 1e-5
    gray = np.full((4, 8, 8, 3), 0.2, np.float32)
    if name in ("hue", "saturation"):
        left = changed(dataclasses.replace(only, saturation=0.0), gray)[0]
        np.testing.assert_allclose(left, gray, atol=1e-6)


def test_contrast_is_a_curve_through_the_middle():
    from openpi_flash_training.train.augment import _sharpen

    x = jnp.linspace(0, 1, 11)
    steep = np.asarray(_sharpen(x, jnp.float32(0.4)))
    np.testing.assert_allclose(steep[[0, 5, 10]], [0, 0.5, 1], atol=1e-6)
    slope = np.tan(1.4 * np.pi / 4)
    np.testing.assert_allclose((steep[6] - steep[5]) / 0.1, slope, rtol=1e-5)
    np.testing.assert_allclose((steep[1] - steep[0]) / 0.1, 1 / slope, rtol=1e-5)
    assert (np.diff(steep) > 0).all()


def test_the_same_key_changes_images_in_the_same_way():
    images = pictures()
    first, second = (np.asarray(changed(AugmentSettings(), images)[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = np.asarray(changed(AugmentSettings(), images, seed=1)[0])
    assert np.abs(first - other).max() > 0.1

"""Random changes of the training images, as openpi makes them.

openpi uses augmax 0.4.1, whose color jitter differs from torchvision's: it works in the space of
hue, saturation and value, on half of the images; it changes the hue by up to 0.1 unless told
otherwise, which openpi does not; and the saturation that openpi asks for changes nothing there.
So the defaults here have a change of hue, and none of saturation. Random numbers are not augmax's.

Shapes: B images, H rows, W columns, O points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


@dataclass(frozen=True)
class AugmentSettings:
    """What is drawn for each image; the defaults are openpi's.

    Attributes:
        crop: side of the random crop, as a share of the image's; scaled back afterwards. 1: none.
        rotation: largest angle, degrees; what comes into view is black.
        shift: largest shift in each direction, whole pixels; the border is repeated. 0: none.
        brightness: largest change of the value, to black (-1) or to white (1).
        contrast: largest change of the slope at mid-gray; of 1 it is infinite.
        hue: largest change of the hue, in turns.
        saturation: largest change of the saturation, to gray (-1) or to pure colors (1).
        probability: of a change of colors.
        fixed_geometry: a camera whose name holds this word is not cropped, rotated or shifted;
            empty: every camera is.
    """

    crop: float = 0.95
    rotation: float = 5.0
    shift: int = 0
    brightness: float = 0.3
    contrast: float = 0.4
    hue: float = 0.1
    saturation: float = 0.0
    probability: float = 0.5
    fixed_geometry: str = "wrist"


SHIFT_ONLY = AugmentSettings(crop=1.0, rotation=0.0, shift=2, probability=0.0, fixed_geometry="")
"""The only augmentation that small models in simulation need."""


def augment(
    settings: AugmentSettings,
    camera: str,
    images: jax.Array,
    points: jax.Array | None,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array | None]:
    """Change images of one camera, and points in them along with it.

    Args:
        settings: what is drawn.
        camera: its name.
        images: [B, H, W, 3] float32 in [-1, 1].
        points: [B, O, 2], x and y as shares of width and height; None: there are none.
        key: of the draws.
    """
    crop_key, shift_key, color_key = jax.random.split(key, 3)
    images = images / 2 + 0.5
    if not settings.fixed_geometry or settings.fixed_geometry not in camera:
        if settings.crop != 1.0 or settings.rotation:
            images, points = _crop_and_rotate(settings, images, points, crop_key)
        if settings.shift:
            images, points = _shift(settings.shift, images, points, shift_key)
    if settings.probability:
        keys = jax.random.split(color_key, len(images))
        images = jax.vmap(partial(_jitter, settings))(images, keys)
    return images * 2 - 1, points


def _crop_and_rotate(
    settings: AugmentSettings, images: jax.Array, points: jax.Array | None, key: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    batch, height, width, _ = images.shape
    size = jnp.array([height, width], jnp.float32)  # rows first, as all coordinates here
    cropped = jnp.floor(size * settings.crop)
    scale, room = cropped / size, (size - cropped) / 2
    place_key, angle_key = jax.random.split(key)
    centers = jax.random.uniform(place_key, (batch, 2), minval=-1.0, maxval=1.0) * room
    largest = jnp.deg2rad(settings.rotation)
    angles = jax.random.uniform(angle_key, (batch,), minval=-largest, maxval=largest)
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    turn = jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], axis=1)

    grid = jnp.stack(jnp.mgrid[:height, :width]).reshape(2, -1) - (size[:, None] - 1) / 2

    def sampled(image: jax.Array, turn: jax.Array, center: jax.Array) -> jax.Array:
        # pixels of the result, where they come from
        places = scale[:, None] * (turn @ grid) + (center + (size - 1) / 2)[:, None]
        sample = partial(map_coordinates, order=1, mode="constant", cval=0.0)
        channels = [sample(image[..., channel], list(places)) for channel in range(3)]
        return jnp.stack(channels, axis=-1).reshape(image.shape)

    changed = jax.vmap(sampled)(images, turn, centers)
    if points is not None:
        away = (points[..., ::-1] - 0.5) * size - centers[:, None]
        back = jnp.einsum("bji,boj->boi", turn, away / scale)
        points = (back / size + 0.5)[..., ::-1]
    return changed, points


def _shift(
    most: int, images: jax.Array, points: jax.Array | None, key: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    batch, height, width, _ = images.shape
    starts = jax.random.randint(key, (batch, 2), 0, 2 * most + 1)
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")

    def cut(image: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (*start, 0), (height, width, 3))

    if points is not None:
        moved = (starts - most)[:, None, ::-1] / jnp.array([width, height])
        points = points - moved
    return jax.vmap(cut)(padded, starts), points


def _jitter(settings: AugmentSettings, image: jax.Array, key: jax.Array) -> jax.Array:
    """Change the colors of one image [H, W, 3] in [0, 1]."""
    keys = jax.random.split(key, 5)

    def drawn(index: int, largest: float) -> jax.Array:
        return jax.random.uniform(keys[index], minval=-largest, maxval=largest)

    hue, saturation, value = _to_hsv(image)
    value = _lighten(value, drawn(0, settings.brightness))
    value = _sharpen(value, drawn(1, settings.contrast))
    hue = hue + drawn(2, settings.hue)
    saturation = _lighten(saturation, drawn(3, settings.saturation))
    is_changed = jax.random.bernoulli(keys[4], settings.probability)
    return jnp.where(is_changed, _to_rgb(hue, saturation, value), image)


def _lighten(x: jax.Array, amount: jax.Array) -> jax.Array:
    """A part of the way to zero if negative, to one if positive."""
    return jnp.where(amount < 0, x * (1 + amount), x * (1 - amount) + amount)


def _sharpen(x: jax.Array, amount: jax.Array) -> jax.Array:
    """A curve from 0 to 1 with this slope in its middle and the inverse slope at its ends."""
    slope = jnp.tan((amount + 1) * (jnp.pi / 4))
    knee = slope / (2 * (1 + slope))
    middle = slope * (x - 0.5) + 0.5
    return jnp.where(x < knee, x / slope, jnp.where(x > 1 - knee, 1 - (1 - x) / slope, middle))


def _to_hsv(image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hue in turns, saturation and value [H, W] each."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value, least = image.max(-1), image.min(-1)
    spread = value - least
    safe = jnp.where(spread > 0, spread, 1.0)
    hue = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    saturation = jnp.where(value > 0, spread / jnp.where(value > 0, value, 1.0), 0.0)
    return jnp.where(spread > 0, hue / 6, 0.0) % 1.0, saturation, value


def _to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    def channel(offset: float) -> jax.Array:
        sector = (offset + hue * 6) % 6
        return value - value * saturation * jnp.clip(jnp.minimum(sector, 4 - sector), 0, 1)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)

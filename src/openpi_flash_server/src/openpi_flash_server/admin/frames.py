"""The camera images of an observation, as PNG or JPEG for a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flash_transport import encode_jpeg
from openpi_flash_models.transforms.images import resize_with_pad
from openpi_flash_server.slot.encoded_images import MARK, decode_images

MOST_FRAMES = 8
"""Of one observation."""


def frame_names(observation: Mapping[str, Any]) -> list[str]:
    """The names of the observation's images: their keys, joined by `/`."""
    return [name for name, _ in _images(observation, ())][:MOST_FRAMES]


def frame(
    observation: Mapping[str, Any], name: str, sizes: Mapping[str, Sequence[int]]
) -> bytes | None:
    """One image as JPEG, in the size that the model gets; None if there is no such image.

    Args:
        observation: a request's.
        name: one of `frame_names`.
        sizes: height and width that the model gets, by name; others stay as they came.

    Raises:
        ObservationError: the image cannot be decoded.
    """
    found = next((value for key, value in _images(observation, ()) if key == name), None)
    if found is None:
        return None
    image = _as_pixels(np.asarray(decode_images(found)))
    if name in sizes:
        height, width = sizes[name]
        if image.shape[:2] != (height, width):
            image = resize_with_pad(image, height, width)
    return encode_jpeg(np.ascontiguousarray(image))


def _images(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        if MARK in value:
            yield "/".join(path), value
            return
        for key, item in value.items():
            yield from _images(item, (*path, str(key)))
    elif isinstance(value, np.ndarray) and _is_image(value):
        yield "/".join(path), value


def _is_image(value: np.ndarray) -> bool:
    return (
        value.ndim == 3
        and 3 in (value.shape[0], value.shape[2])
        and min(value.shape) > 0
        and value.dtype.kind in "uf"
    )


def _as_pixels(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8, from either layout; floats are scaled as openpi's robots send them."""
    if image.shape[2] != 3:
        image = image.transpose(1, 2, 0)
    if image.dtype.kind == "f":
        low = -1.0 if image.min() < 0 else 0.0
        image = (np.clip(image, low, 1.0) - low) * (255 / (1.0 - low))
    return image.astype(np.uint8)

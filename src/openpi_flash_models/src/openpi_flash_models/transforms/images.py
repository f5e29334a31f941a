"""Camera images: parses a client's image, and scales it for the vision tower."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.model.inputs import IMAGE_SIZE
from openpi_flash_models.transforms.arrays import parse_array


def parse_image(value: Any, key: str) -> np.ndarray:
    """A client's image as uint8 [height, width, 3].

    Clients send rows first or channels first, uint8 or floats in [0, 1]; floats are rounded down,
    as in openpi.

    Args:
        value: [H, W, 3] or [3, H, W].
        key: what the client calls it, for the error.

    Raises:
        ObservationError: it is no such image.
    """
    image = parse_array(value, key)
    if image.ndim != 3 or 3 not in (image.shape[0], image.shape[-1]) or 0 in image.shape:
        raise ObservationError(
            key, f"expected an image of shape [H, W, 3] or [3, H, W], got {list(image.shape)}"
        )
    if image.shape[-1] != 3:
        image = image.transpose(1, 2, 0)
    height, width = scaled_size(image.shape[0], image.shape[1], IMAGE_SIZE, IMAGE_SIZE)
    if not height or not width:
        raise ObservationError(
            key,
            f"an image of {image.shape[0]} x {image.shape[1]} (rows x columns) becomes "
            f"{height} x {width} when it is scaled into {IMAGE_SIZE} x {IMAGE_SIZE}",
        )
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise ObservationError(key, f"expected uint8 or floats in [0, 1], got {image.dtype}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0.0 and high <= 1.0):  # also catches NaN
        raise ObservationError(
            key, f"expected floats in [0, 1] (or uint8), got values from {low:.3g} to {high:.3g}"
        )
    return (image * 255).astype(np.uint8)


def scaled_size(rows: int, columns: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of an image that is scaled into ``height`` x ``width`` in proportion."""
    ratio = max(columns / width, rows / height)
    return int(rows / ratio), int(columns / ratio)


def resize_with_pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale into [height, width] keeping the proportion, with black borders around.

    Rounds sizes as ``openpi_client/image_tools.py`` does.

    Args:
        image: uint8 [H, W, 3].
        height: of the result.
        width: of the result.
    """
    if image.shape[:2] == (height, width):
        return image
    rows, columns = scaled_size(image.shape[0], image.shape[1], height, width)
    # what is thin enough may vanish in a smaller image than that of `parse_image`
    new_height, new_width = max(rows, 1), max(columns, 1)
    scaled = Image.fromarray(np.ascontiguousarray(image)).resize(
        (new_width, new_height), resample=Image.Resampling.BILINEAR
    )
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    canvas[top : top + new_height, left : left + new_width] = np.asarray(scaled)
    return canvas

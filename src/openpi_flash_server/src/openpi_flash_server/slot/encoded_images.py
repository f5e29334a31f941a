"""Decodes images that a client sent as JPEG to the arrays that a policy reads.

An encoded image is a map `{"__image__": "jpeg", "data": bytes}` in the place of an array, with
`"layout": "chw"` if the array was [3, H, W].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flash_transport import ImageError, decode_image
from openpi_flash_models.errors import ObservationError

MARK = "__image__"
MAX_DECODED_BYTES = 64 * 1024 * 1024
"""Bytes of all decoded images of one message: the limit of a message of arrays."""


def decode_images(message: Any, *, max_bytes: int = MAX_DECODED_BYTES) -> Any:
    """The message with an array uint8 in the place of each encoded image.

    Args:
        message: what the codec decoded; it is not changed.
        max_bytes: limit of all decoded images together.

    Raises:
        ObservationError: an image cannot be decoded, or they are too large; names the key.
    """
    return _Decoder(max_bytes).walk(message, ())


def holds_images(value: Any) -> bool:
    """Whether there is an encoded image in a message."""
    # most values, and the quickest to tell
    if isinstance(value, np.ndarray):
        return False
    if isinstance(value, Mapping):
        return MARK in value or any(map(holds_images, value.values()))
    return isinstance(value, list) and any(map(holds_images, value))


class _Decoder:
    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def walk(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            if MARK in value:
                return self._decode(value, "/".join(path) or "observation")
            return {key: self.walk(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self.walk(item, (*path, str(index))) for index, item in enumerate(value)]
        return value

    def _decode(self, value: Mapping[str, Any], key: str) -> np.ndarray:
        if value[MARK] != "jpeg":
            raise ObservationError(key, f"{MARK} is {value[MARK]!r:.80}, expected 'jpeg'")
        data, layout = value.get("data"), value.get("layout", "hwc")
        if not isinstance(data, bytes | memoryview):
            raise ObservationError(key, f"data is {type(data).__name__}, expected bytes")
        if layout not in ("hwc", "chw"):
            raise ObservationError(key, f"layout is {layout!r:.80}, expected 'hwc' or 'chw'")
        try:
            image = decode_image(data, max_bytes=self._left)
        except ImageError as error:
            raise ObservationError(key, str(error)) from error
        self._left -= image.nbytes
        return image if layout == "hwc" else image.transpose(2, 0, 1)

"""Finds the images of an observation and encodes them, as `image_encoding` says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from flash_transport._native import jpeg_message
from flash_transport.image_choice import ImageChooser, ImageLimits
from flash_transport.link_estimate import LinkEstimate

__all__ = ["Encoding", "ImageEncoder", "image_encoder"]

Encoding = Literal["raw", "jpeg", "auto"]


class ImageEncoder:
    """Encodes the images of one client's observations. Any number of threads may share it.

    An image is an array of uint8 [height, width, 3] or [3, height, width], with sides of at least
    `LEAST_SIDE`.

    Args:
        limits: of the choice between raw and JPEG; its best quality is JPEG's without a choice.
        chooses: False encodes every image.
    """

    def __init__(self, limits: ImageLimits, *, chooses: bool) -> None:
        self._limits = limits
        self._chooser = ImageChooser(limits) if chooses else None
        self._lock = threading.Lock()

    def encoded(
        self, observation: dict[str, Any], estimate: LinkEstimate | None
    ) -> tuple[dict[str, Any], int]:
        """The observation as it travels, and the quality of its images; 0 if they are raw.

        Args:
            observation: is not changed; nested maps may hold images, too.
            estimate: what the transport knows of the link.
        """
        raw_bytes = _image_bytes(observation)
        if not raw_bytes:
            return observation, 0
        quality: int | None = self._limits.best
        if self._chooser is not None:
            with self._lock:
                choice = self._chooser.choose(time.monotonic(), raw_bytes, estimate)
            quality = choice.quality
            if choice.news:
                _LOGGER.info(choice.news)
        if quality is None:
            return observation, 0
        sizes: list[int] = []
        encoded = _with_jpegs(observation, quality, sizes)
        if self._chooser is not None:
            with self._lock:
                self._chooser.learn(raw_bytes, quality, sum(sizes))
        return encoded, quality


def image_encoder(
    encoding: Encoding, jpeg_quality: int, least_jpeg_quality: int, image_budget: float
) -> ImageEncoder | None:
    """The encoder of these options of a client; None if images are sent as they are.

    Raises:
        ValueError: an option is out of range.
    """
    if encoding not in get_args(Encoding):
        known = ", ".join(get_args(Encoding))
        raise ValueError(f"image_encoding is {encoding!r}, expected one of: {known}")
    if encoding == "raw":
        return None
    # whoever asks for less than the usual least quality means it
    limits = ImageLimits(image_budget, jpeg_quality, min(least_jpeg_quality, jpeg_quality))
    return ImageEncoder(limits, chooses=encoding == "auto")


def _is_image(value: Any) -> bool:
    if not (isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3):
        return False
    rows = value.shape[:2] if value.shape[2] == 3 else value.shape[1:]
    return 3 in (value.shape[0], value.shape[2]) and min(rows) >= LEAST_SIDE


def _image_bytes(observation: Mapping[Any, Any]) -> int:
    total = 0
    for value in observation.values():
        if isinstance(value, dict):
            total += _image_bytes(value)
        elif _is_image(value):
            total += value.nbytes
    return total


def _with_jpegs(observation: Mapping[Any, Any], quality: int, sizes: list[int]) -> dict[Any, Any]:
    encoded: dict[Any, Any] = {}
    for key, value in observation.items():
        if isinstance(value, dict):
            encoded[key] = _with_jpegs(value, quality, sizes)
        elif _is_image(value):
            encoded[key] = jpeg_message(np.ascontiguousarray(value), quality)
            sizes.append(len(encoded[key]["data"]))
        else:
            encoded[key] = value
    return encoded


LEAST_SIDE = 16
"""A smaller array of bytes is a mask or a map rather than an image, and no JPEG worth its head."""
_LOGGER = logging.getLogger("flash_transport")

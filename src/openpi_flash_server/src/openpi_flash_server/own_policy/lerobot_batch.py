"""From a request to the arrays that LeRobot's policies read. Knows neither LeRobot nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.transforms.arrays import parse_numbers
from openpi_flash_models.transforms.images import parse_image


@dataclass(frozen=True)
class Feature:
    """One feature of LeRobot's `input_features`.

    Attributes:
        key: such as `observation.images.top`; requests have it under the same key.
        shape: of one frame; [3, height, width] for an image.
        is_image: whether it is one.
    """

    key: str
    shape: tuple[int, ...]
    is_image: bool

    @property
    def request_shape(self) -> tuple[int, ...]:
        """The shape in a request: images have their channels last."""
        return (*self.shape[1:], self.shape[0]) if self.is_image else self.shape


def batch_of(
    observation: Mapping[str, Any], features: tuple[Feature, ...], steps: int | None
) -> dict[str, np.ndarray]:
    """A batch of one: float32, images [1, 3, H, W] from 0 to 1, other features [1, D].

    Args:
        observation: a request. Each feature is one frame, or its last `steps` frames.
        features: what the policy reads.
        steps: frames of history that it reads, for which each array gets an axis after the first;
            a single frame stands for all of them, as at the start of an episode. None: no axis.

    Raises:
        ObservationError: a feature is missing or of another shape.
    """
    batch = {}
    for feature in features:
        value = observation.get(feature.key)
        if value is None:
            present = ", ".join(sorted(map(str, observation))) or "nothing"
            raise ObservationError(feature.key, f"missing: the observation has {present}")
        frames = np.stack([_frame(frame, feature) for frame in _frames(value, feature, steps)])
        if steps is None:
            batch[feature.key] = frames
        else:
            batch[feature.key] = np.repeat(frames, steps // len(frames), axis=0)[None]
    return batch


def _frames(value: Any, feature: Feature, steps: int | None) -> list[Any]:
    """The frames in a request: one, or as many as the policy reads."""
    if np.ndim(value) <= len(feature.shape):
        return [value]
    if steps is not None and len(value) == steps:
        return list(value)
    expected = "one frame" if steps in (None, 1) else f"one frame or {steps}"
    raise ObservationError(feature.key, f"expected {expected}, got {len(value)}")


def _frame(value: Any, feature: Feature) -> np.ndarray:
    if feature.is_image:
        image = parse_image(value, feature.key)
        height, width = feature.shape[1:]
        if image.shape[:2] != (height, width):
            # stretched, as LeRobot's own policy server does
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            image = np.asarray(resized)
        return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    numbers = parse_numbers(value, feature.key)
    if numbers.shape != feature.shape:
        raise ObservationError(
            feature.key, f"expected shape {list(feature.shape)}, got {list(numbers.shape)}"
        )
    return numbers.astype(np.float32)

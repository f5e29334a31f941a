"""The inputs of a model, in any framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Order of the camera slots in the prefix. It is part of the weights' meaning.
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
IMAGE_SIZE = 224
"""Side in pixels of the images of a released model."""


@dataclass(frozen=True)
class ModelInputs:
    """One batch of observations, ready for a model.

    A masked camera and a masked prompt slot contribute nothing to the result, so they may also be
    left out (``packing.pack`` does it): C and L only change the cost.

    Attributes:
        images: [B, C, side, side, 3] uint8, scaled on the device; or float32 already in [-1, 1];
            side is ``ModelShape.image_size``.
        image_mask: [B, C] bool, false for a camera that is not there.
        tokens: [B, L] int32, padded on the right.
        token_mask: [B, L] bool, false for padding.
        state: [B, A] float32, normalised and padded to the model's width; only pi0 reads it, the
            others take None.
    """

    images: Any
    image_mask: Any
    tokens: Any
    token_mask: Any
    state: Any = None

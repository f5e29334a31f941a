"""Random changes of the training images, as openpi makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentSettings:
    """What is drawn for each image; the defaults are openpi's.

    Attributes:
        crop: side of the random crop, as a share of the image's; scaled back afterwards. 1: none.
        rotation: largest angle, degrees.
        shift: largest shift in each direction, pixels; the border is repeated. 0: none.
        brightness: largest relative change.
        contrast: largest relative change.
        saturation: largest relative change.
        fixed_geometry: a camera whose name holds this word is not cropped, rotated or shifted.
    """

    crop: float = 0.95
    rotation: float = 5.0
    shift: float = 0.0
    brightness: float = 0.3
    contrast: float = 0.4
    saturation: float = 0.5
    fixed_geometry: str | None = "wrist"

"""Extra losses with heads of their own, which are dropped after training.

A small model that starts from random weights does not learn to look from the flow loss alone.
Simulation gives the labels of these losses for free:

    detection   each image token says how likely it holds each object, and where in its patch
    position    the last prompt token says where the object is that the prompt names

Labels of a batch, by name:

    points    camera -> [B, O, 2] float32: x to the right and y down as shares of the image's width
              and height; outside of [0, 1) or NaN where the object is not visible
    position  [B, K] float32: standardised coordinates of the named object; NaN where unknown

Shapes: B batch, C cameras, O objects, K coordinates, P tokens per image, D language width.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExtraLosses:
    """Which extra losses there are.

    Attributes:
        objects: O, objects whose places the image tokens learn; 0: no detection loss.
        coordinates: K, coordinates of the named object; 0: no position loss.
        detection_weight: of the detection loss.
        position_weight: of the position loss.
    """

    objects: int = 0
    coordinates: int = 0
    detection_weight: float = 1.0
    position_weight: float = 1.0

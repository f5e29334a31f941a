"""Images of an episode: an array, or anything that hands them out one after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np


class ImageSequence(Protocol):
    """The images of a camera; an array uint8 [T, H, W, 3] is one.

    Minutes of a camera at its own size fill the memory; who reads them from a recording hands them
    out as they are encoded.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, height, width, 3)."""
        ...

    @property
    def dtype(self) -> Any:
        """uint8."""
        ...

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each image, uint8 [H, W, 3], once."""
        ...

"""Images of a dataset's episode, to be copied into another dataset as they are stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openpi_flash_training.dataset.reader import Dataset


@dataclass(frozen=True)
class StoredImages:
    """A camera of an episode.

    Attributes:
        dataset: that has it.
        episode: index.
        camera: key of the feature.
    """

    dataset: Dataset
    episode: int
    camera: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, height, width, 3)."""
        length = self.dataset.episodes[self.episode].length
        return (length, *self.dataset.features[self.camera].shape)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return np.dtype(np.uint8)

"""A camera of a dataset's episode whose images are PNG files, to be copied into another dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openpi_flash_training.dataset.png import is_rgb_png
from openpi_flash_training.dataset.reader import Dataset


@dataclass(frozen=True)
class StoredPngs:
    """Images that are stored one by one already.

    Attributes:
        dataset: that has them.
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

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each image, uint8 [H, W, 3]."""
        return iter(self.dataset.images(self.episode, self.camera, range(self.shape[0])))

    def files(self) -> list[bytes | None]:
        """The file of each image; None for one that is no PNG of 8-bit RGB: encode it anew."""
        stored = self.dataset.image_files(self.episode, self.camera)
        return [file if is_rgb_png(file) else None for file in stored]

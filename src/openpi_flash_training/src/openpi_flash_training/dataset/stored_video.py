"""A camera of a dataset's episode, to be copied into another dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.video_file import copy_video

_AT_A_TIME = 32


@dataclass(frozen=True)
class StoredVideo:
    """Images that are stored as video already.

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
        length = self.shape[0]
        for start in range(0, length, _AT_A_TIME):
            yield from self.at(range(start, min(start + _AT_A_TIME, length)))

    def at(self, frames: Sequence[int]) -> np.ndarray:
        """Some images, uint8 [n, H, W, 3]."""
        return self.dataset.images(self.episode, self.camera, frames)

    def copy_to(self, path: Path) -> bool:
        """Copy the video as it is; False where it has to be encoded anew."""
        source, start = self.dataset.video_place(self.episode, self.camera)
        return copy_video(source, start, self.shape[0], self.dataset.fps, path)

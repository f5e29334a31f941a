"""A camera whose images are a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from openpi_flash_training.dataset.stored_images import StoredImages
from openpi_flash_training.dataset.video_file import copy_video

_AT_A_TIME = 32


class StoredVideo(StoredImages):
    """Images that are stored as video already."""

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

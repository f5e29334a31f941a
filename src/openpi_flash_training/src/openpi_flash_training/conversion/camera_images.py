"""The images of a camera at the frames of an episode, handed out as they are encoded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flash_transport import resize_with_pad
from openpi_flash_training.episodes.recorded import CameraStream
from openpi_flash_training.episodes.resample import newest


class CameraImages:
    """One image a frame; a camera that is slower than the dataset repeats its own.

    Args:
        camera: of a recording.
        frames: times of the frames, int64 [T], ns.
        size: height and width to fit the images into; None: as they are.

    Raises:
        DataError: the first image cannot be read.
    """

    def __init__(
        self, camera: CameraStream, frames: np.ndarray, size: tuple[int, int] | None
    ) -> None:
        self._camera = camera
        self._numbers, self._repeats = np.unique(newest(camera.times, frames), return_counts=True)
        self._size = size
        first = next(self._read(self._numbers[:1]))
        self._shape = (len(frames), *first.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, height, width, 3)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return np.dtype(np.uint8)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each frame's image, uint8 [H, W, 3]."""
        for image, count in zip(self._read(self._numbers), self._repeats.tolist(), strict=True):
            for _ in range(count):
                yield image

    def _read(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        for image in self._camera.read(numbers.tolist()):
            if self._size is not None and image.shape[:2] != self._size:
                yield resize_with_pad(image, *self._size)
            else:
                yield image

"""A camera whose images are PNG files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from openpi_flash_training.dataset.png import is_rgb_png
from openpi_flash_training.dataset.stored_images import StoredImages


class StoredPngs(StoredImages):
    """Images that are stored one by one already."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each image, uint8 [H, W, 3]."""
        return iter(self.dataset.images(self.episode, self.camera, range(self.shape[0])))

    def files(self) -> list[bytes | None]:
        """The file of each image; None for one that is no PNG of 8-bit RGB: encode it anew."""
        stored = self.dataset.image_files(self.episode, self.camera)
        return [file if is_rgb_png(file) else None for file in stored]

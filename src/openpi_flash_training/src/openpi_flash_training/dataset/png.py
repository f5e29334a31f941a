"""PNG images inside the data files, for cameras of the type ``image``."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

COMPRESS_LEVEL = 1
"""zlib's fastest: files of robots' cameras are a few per cent larger than with 6."""


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of an image, uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=COMPRESS_LEVEL)
    return file.getvalue()

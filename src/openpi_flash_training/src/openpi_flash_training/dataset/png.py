"""PNG images inside the data files, for cameras of the type ``image``."""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image

COMPRESS_LEVEL = 1
"""zlib's fastest: files of robots' cameras are a few per cent larger than with 6."""


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of an image, uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=COMPRESS_LEVEL)
    return file.getvalue()


def decode_image(content: bytes | BinaryIO) -> np.ndarray:
    """The image of a PNG or JPEG file, uint8 [H, W, 3].

    Raises:
        OSError: it is not an image.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))

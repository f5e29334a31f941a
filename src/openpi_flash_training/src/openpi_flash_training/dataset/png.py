"""PNG images inside the data files, for cameras of the type ``image``."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

COMPRESS_LEVEL = 1
"""zlib's fastest: files of robots' cameras are a few per cent larger than with 6."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = b"\x08\x02"
"""Bit depth and colour type of the header (PNG specification, 11.2.1)."""


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of an image, uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=COMPRESS_LEVEL)
    return file.getvalue()


def is_rgb_png(file: bytes) -> bool:
    """Whether a file is a PNG of three channels of 8 bits, as :func:`encode_png` writes them."""
    return file[:8] == _SIGNATURE and file[24:26] == _EIGHT_BIT_RGB

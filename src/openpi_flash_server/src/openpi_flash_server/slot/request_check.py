"""What the texts, the stamp and the images of one request may hold. Pure.

Sizes of images are read from their headers, before anything is decoded: a file of 1.5 kB may claim
66 MB of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flash_transport import ImageError, image_size, packb
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.text.task import KEY as PROMPT
from openpi_flash_server.config.request_limits import RequestLimits
from openpi_flash_server.slot.encoded_images import MARK
from openpi_flash_server.slot.work import Work


def check_request(work: Work, limits: RequestLimits) -> None:
    """Refuses work beyond the limits.

    Raises:
        ObservationError: names the key, its size and the limit.
    """
    _Check(limits).run(work)


@dataclass(frozen=True, slots=True)
class _Check:
    limits: RequestLimits

    def run(self, work: Work) -> None:
        self._check_stamp(work.observation_stamp)
        prompt = work.observation.get(PROMPT)
        if isinstance(prompt, bytes | bytearray | memoryview):
            self._check_length(PROMPT, len(prompt))
        self._check_below(work.observation, (), 0)

    def _check_stamp(self, stamp: Any) -> None:
        if stamp is None or isinstance(stamp, int | float):
            return
        size = stamp.nbytes if isinstance(stamp, np.ndarray) else len(packb(stamp))
        if size > self.limits.stamp_bytes:
            raise ObservationError(
                "observation_stamp",
                f"has {size} bytes, at most limits.stamp_bytes = {self.limits.stamp_bytes} are "
                "taken",
            )

    def _check_below(self, value: Any, path: tuple[str, ...], pixels: int) -> int:
        """Checks a value and all in it; returns the pixels of the images up to its end."""
        if isinstance(value, str):
            self._check_length("/".join(path), len(value))
        elif isinstance(value, (np.ndarray, np.generic)):
            bytes_each = _CHARACTER_BYTES.get(value.dtype.kind)
            if bytes_each is not None:
                self._check_length("/".join(path), value.dtype.itemsize // bytes_each)
        elif isinstance(value, Mapping):
            if MARK in value:
                return self._count_pixels(value.get("data"), path, pixels)
            for key, inner in value.items():
                self._check_length("/".join((*path, str(key)[:40])), len(key))
                pixels = self._check_below(inner, (*path, str(key)), pixels)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                # most lists hold numbers
                if not isinstance(inner, int | float):
                    pixels = self._check_below(inner, (*path, str(index)), pixels)
        return pixels

    def _count_pixels(self, data: Any, path: tuple[str, ...], pixels: int) -> int:
        if not isinstance(data, bytes | memoryview):
            return pixels
        try:
            rows, columns = image_size(data)
        except ImageError:
            # decoding says what is wrong with it
            return pixels
        pixels += rows * columns
        if pixels > self.limits.image_pixels:
            raise ObservationError(
                "/".join(path),
                f"is {rows} rows by {columns} columns; with it the images have {pixels} pixels, at "
                f"most limits.image_pixels = {self.limits.image_pixels} are decoded",
            )
        return pixels

    def _check_length(self, key: str, length: int) -> None:
        if length > self.limits.text_characters:
            raise ObservationError(
                key,
                f"has {length} characters, at most limits.text_characters = "
                f"{self.limits.text_characters} are taken",
            )


_CHARACTER_BYTES = {"U": 4, "S": 1}
"""Of numpy's kinds of text."""

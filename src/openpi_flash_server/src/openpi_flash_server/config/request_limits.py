"""The limits of one request, as its check takes them. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one observation.

    Attributes:
        image_pixels: rows times columns of its encoded images together.
        text_characters: characters of each text, such as the prompt, and of each key.
        stamp_bytes: bytes of `observation_stamp` on the wire; the answer holds it again.
    """

    image_pixels: int = 8_388_608
    text_characters: int = 4096
    stamp_bytes: int = 1024

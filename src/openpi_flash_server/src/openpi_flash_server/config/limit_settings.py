"""The limits of one request."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from openpi_flash_server.config.model_settings import Settings
from openpi_flash_server.config.request_limits import RequestLimits

_DEFAULT = RequestLimits()


class LimitSettings(Settings):
    """What a request may hold; one beyond a limit is answered `bad_request`."""

    image_pixels: Annotated[int, Field(strict=True, ge=1, le=22_369_621)] = Field(
        default=_DEFAULT.image_pixels,
        description="rows times columns of an observation's encoded images together, read from "
        "their headers before one is decoded",
    )
    text_characters: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        default=_DEFAULT.text_characters,
        description="characters of each text of a request, such as the prompt, and of each key",
    )
    stamp_bytes: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        default=_DEFAULT.stamp_bytes,
        description="bytes of observation_stamp, which the answer holds again",
    )

    @property
    def of_a_request(self) -> RequestLimits:
        """As the slots take them."""
        return RequestLimits(self.image_pixels, self.text_characters, self.stamp_bytes)

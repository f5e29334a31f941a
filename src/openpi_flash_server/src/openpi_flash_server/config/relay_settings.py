"""The settings of a relay, at which clients find a server that they cannot reach."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from openpi_flash_server.config.field_types import Text
from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.model_settings import Settings

RelayName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class RelaySettings(Settings):
    """Where one slot registers, besides its ports (docs/network.md)."""

    address: Text = Field(
        description="name or address of the relay, with or without its port, 5557; the slot "
        "registers there, for clients that cannot reach its QUIC port"
    )
    name: RelayName = Field(
        description="the slot's name at the relay, which clients give as their host: up to 64 of "
        "a-z, A-Z, 0-9, - . _"
    )
    token_file: Text = Field(description="file with the token that the relay has for this name")

    @field_validator("token_file")
    @classmethod
    def _is_a_path(cls, text: str) -> str:
        user_path(text)
        return text

"""The settings of the operator's port: metrics, state, live settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PrivateAttr, field_validator, model_validator

from openpi_flash_server.config.field_problem import problem_at
from openpi_flash_server.config.field_types import Port, Text
from openpi_flash_server.config.files import KEY_RULE, is_key
from openpi_flash_server.config.key_file import keys_of_file
from openpi_flash_server.config.listen_address import is_loopback, listen_address
from openpi_flash_server.config.model_settings import Settings


class AdminSettings(Settings):
    """The operator's HTTP port."""

    enabled: Annotated[bool, Field(strict=True)] = Field(
        default=True,
        description="whether the server has a port for its operator: a page, metrics, state, "
        "live settings",
    )
    host: Text = Field(
        default="127.0.0.1",
        description="the address of that port; beyond this machine it needs a key",
    )
    port: Port = Field(
        default=8001,
        description="TCP port; if it is taken and was not chosen, the server runs without it",
    )
    api_key: Annotated[str, Field(strict=True)] | None = Field(
        default=None,
        description="the operator's key, sent as `Authorization: Bearer KEY`; clients' keys do "
        "not open this port",
        repr=False,
    )
    api_key_file: Text | None = Field(
        default=None, description="file with more such keys, one a line"
    )
    show_frames: Annotated[bool, Field(strict=True)] = Field(
        default=True,
        description="whether the page shows the last camera images of each session",
    )

    @field_validator("host")
    @classmethod
    def _can_be_listened_on(cls, host: str) -> str:
        return listen_address(host)

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: str | None) -> str | None:
        # never the key itself: this message is logged
        if key is not None and not is_key(key):
            raise ValueError(KEY_RULE)
        return key

    @model_validator(mode="after")
    def _key_file_can_be_read(self) -> AdminSettings:
        self._keys_of_file = keys_of_file(self.api_key_file)
        return self

    @model_validator(mode="after")
    def _is_closed_to_others(self) -> AdminSettings:
        if self.enabled and not is_loopback(self.host) and not self.keys:
            raise problem_at(
                "host",
                "must be 127.0.0.1, ::1 or localhost unless api_key or api_key_file is set, "
                f"got {self.host!r}",
            )
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of an operator; empty lets everybody in who reaches the port."""
        own = () if self.api_key is None else (self.api_key,)
        return tuple(dict.fromkeys((*own, *self._keys_of_file)))

    _keys_of_file: tuple[str, ...] = PrivateAttr(default=())

"""The settings of recordings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.model_settings import Settings


class RecordingSettings(Settings):
    """Requests and answers in MCAP files (docs/recording.md)."""

    directory: Annotated[str, Field(strict=True, min_length=1)] | None = Field(
        default=None,
        description="where requests and answers are recorded, a directory of this server alone; "
        "none: nothing is recorded",
    )
    requests: Annotated[bool, Field(strict=True)] = Field(
        default=True,
        description="whether every request is written; if false, only black boxes are",
    )
    file_mb: Annotated[float, Field(strict=True, gt=0, le=100_000, allow_inf_nan=False)] = Field(
        default=256.0, description="the size at which another file of requests begins, MB"
    )
    max_gb: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        default=20.0,
        description="the size of all files of requests, GB; the oldest are deleted",
    )
    min_free_gb: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = Field(
        default=2.0,
        description="recording stops while less than this is free on the disk, GB",
    )
    black_box_s: Annotated[float, Field(strict=True, ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=60.0,
        description="how much of the past is written when a request fails by a fault of the "
        "server, s; 0 writes no black box",
    )
    black_box_mb: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        default=256.0, description="the memory for a black box, MB; a longer past is forgotten"
    )

    @field_validator("directory")
    @classmethod
    def _is_a_path(cls, text: str | None) -> str | None:
        if text is not None:
            user_path(text)
        return text

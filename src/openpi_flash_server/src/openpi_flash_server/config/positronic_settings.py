"""The settings of Positronic's sessions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.model_settings import Settings
from openpi_flash_server.positronic.codecs import CodecName

_DEFAULT_FPS = 15.0
_DEFAULT_HORIZON_SEC = 1.0


class PositronicSettings(Settings):
    """Sessions for Positronic's clients, on the action slot's WebSocket port."""

    codec: CodecName | None = Field(
        default=None,
        description="what observations and actions of Positronic's clients mean; none: no sessions",
    )
    checkpoints_dir: Annotated[str, Field(strict=True, min_length=1)] | None = Field(
        default=None,
        description="the directory of an experiment, with a checkpoint in each numbered directory; "
        "a session may ask for any of them; none: for action.checkpoint_dir only",
    )
    max_checkpoints: Annotated[int, Field(strict=True, ge=1, le=16)] = Field(
        default=1,
        description="how many checkpoints of checkpoints_dir may be in memory beside the action "
        "slot's own; a session that asks for one more waits until the sessions of another end",
    )
    action_fps: Annotated[float, Field(strict=True, gt=0, le=1000, allow_inf_nan=False)] = Field(
        default=_DEFAULT_FPS, description="steps per second of a chunk, as the policy was trained"
    )
    action_horizon_sec: Annotated[float, Field(strict=True, gt=0, le=60, allow_inf_nan=False)] = (
        Field(
            default=_DEFAULT_HORIZON_SEC,
            description="how much of a chunk a client gets, s; the rest is left out",
        )
    )
    flip_grip: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="true for a checkpoint whose grip is 1 for open, as of the sim_stack "
        "recordings; to Positronic's clients 1 is closed",
    )

    @field_validator("checkpoints_dir")
    @classmethod
    def _is_a_path(cls, text: str | None) -> str | None:
        if text is not None:
            user_path(text)
        return text

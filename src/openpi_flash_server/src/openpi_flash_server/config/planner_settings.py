"""The settings of the planner slot."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from openpi_flash_server.config.field_problem import look_up
from openpi_flash_server.config.field_types import (
    RELOAD_MEMORY,
    WATCHDOG,
    ReloadMemory,
    Text,
    WatchdogSeconds,
)
from openpi_flash_server.config.live_prompts import DEFAULT_PROMPTS
from openpi_flash_server.config.model_settings import DTYPE, LIVE, Dtype, Settings
from openpi_flash_server.config.prompt_template import action_template, planner_template


class PlannerSettings(Settings):
    """The slot that answers with the next subtask in words."""

    checkpoint_dir: Text = Field(description="the checkpoint: a directory or a URL")
    max_generation_tokens: Annotated[int, Field(strict=True, ge=1, le=1024)] = Field(
        default=20,
        description="the longest subtask, in tokens; decoding stops earlier at EOS",
    )
    generation_prompt_format: Annotated[
        str, Field(strict=True), AfterValidator(planner_template)
    ] = Field(
        default=DEFAULT_PROMPTS.generation_prompt_format,
        description="the planner's prompt; holds {task}",
        json_schema_extra={"pattern": r"\{task\}", **LIVE},
    )
    action_prompt_template: Annotated[str, Field(strict=True), AfterValidator(action_template)] = (
        Field(
            default=DEFAULT_PROMPTS.action_prompt_template,
            description="the action model's prompt in combined mode; holds {task} and {subtask}, "
            "or is {task} alone, and actions do not follow the subtask",
            json_schema_extra={
                "allOf": [{"pattern": r"\{task\}"}, {"pattern": r"\{subtask\}|^\{task\}$"}],
                **LIVE,
            },
        )
    )

    schedule: Literal["inline", "background"] = Field(
        default="inline",
        description="when the planner runs beside an action slot: inline before every action, for "
        "the same observation, as Hebbian's openpi-flash; background at refresh_hz, and actions "
        "follow the newest subtask",
    )
    refresh_hz: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] = Field(
        default=1.0,
        description="how often the background schedule asks for a new subtask of a session that "
        "acts; the planner may be slower",
    )
    max_wait_ms: Annotated[
        float | None, Field(strict=True, gt=0, le=600_000, allow_inf_nan=False)
    ] = Field(
        default=None,
        description="how long an action waits for the planner, then it is computed for the task "
        "alone: inline every action, default 30000; background the first of a prompt, default 2000",
    )
    max_age_ms: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        default=10_000.0,
        description="how much older than an action's observation the observation of its subtask "
        "may be, in the background schedule; then actions are computed for the task alone",
    )
    block_tokens: Annotated[int, Field(strict=True, ge=1, le=1024)] = Field(
        default=4,
        description="how many tokens the planner decodes at a time; actions run between. Fewer "
        "delay actions less, more make a subtask faster",
    )
    robot: Text | None = Field(
        default=None,
        description="the robot whose camera names the requests use; default: the action slot's",
    )
    watchdog_s: WatchdogSeconds = Field(default=60.0, description=WATCHDOG)
    reload_memory: ReloadMemory = Field(
        default="beside",
        description=f"{RELOAD_MEMORY}, and actions follow the last subtask or the task alone "
        "meanwhile",
    )
    missing_cameras: Literal["masked", "attended"] = Field(
        default="masked",
        description="a camera that a request lacks: masked leaves it out, attended shows the model "
        "a gray image, as Hebbian's openpi-flash does",
    )
    dtype: Dtype = Field(default="auto", description=DTYPE)

    @property
    def max_wait(self) -> float:
        """How long an action waits for the planner, s."""
        if self.max_wait_ms is not None:
            return self.max_wait_ms / 1000
        return 30.0 if self.schedule == "inline" else 2.0

    @field_validator("robot")
    @classmethod
    def _known_robot(cls, name: str | None) -> str | None:
        if name is not None:
            from openpi_flash_models.robots import get_robot

            look_up(get_robot, name)
        return name

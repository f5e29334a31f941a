"""The settings that an operator may change while the server runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from openpi_flash_server.admin.administered import Administered
from openpi_flash_server.config.prompt_template import action_template, planner_template
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.log_output import Level

log = EventLogger(__name__)

Text = Annotated[str, Field(strict=True, min_length=1, max_length=2000)]


class LiveSettings(BaseModel):
    """The settings in force; those of a slot that the server does not have are left out."""

    default_prompt: str | None = Field(
        default=None, description="the task for a request that names none"
    )
    generation_prompt_format: str | None = Field(
        default=None, description="the planner's prompt; holds {task}"
    )
    action_prompt_template: str | None = Field(
        default=None,
        description="the action model's prompt beside a planner; holds {task} and {subtask}, or is "
        "{task} alone, and actions do not follow the subtask",
    )
    max_wait_ms: float | None = Field(
        default=None,
        description="how long a request waits for another session to share its call",
    )
    replicas: int | None = Field(
        default=None, description="how many copies of the policy answer at the same time"
    )
    log_level: Level = Field(description="the lowest level of events that are logged")
    prompt_version: str = Field(
        description="names the three texts; every answer carries the version it was made for"
    )


class LiveChange(BaseModel):
    """The settings to change; the others stay. None of them can be null."""

    model_config = ConfigDict(extra="forbid")

    default_prompt: Text = Field(default="", description="the task for a request that names none")
    generation_prompt_format: Annotated[Text, AfterValidator(planner_template)] = Field(
        default="", description="the planner's prompt; holds {task}"
    )
    action_prompt_template: Annotated[Text, AfterValidator(action_template)] = Field(
        default="",
        description="the action model's prompt beside a planner; holds {task} and {subtask}, or is "
        "{task} alone, and actions do not follow the subtask",
    )
    max_wait_ms: Annotated[float, Field(strict=True, ge=0, le=1000, allow_inf_nan=False)] = Field(
        default=0.0,
        description="how long a request waits for another session to share its call, 0 to 1000",
    )
    replicas: Annotated[int, Field(strict=True, ge=1, le=256)] = Field(
        default=1,
        description="how many copies of the policy answer at the same time, 1 to 256; those that "
        "leave answer what they were given",
    )
    log_level: Level = Field(
        default="info", description="the lowest level of events that are logged"
    )

    @field_validator("default_prompt")
    @classmethod
    def _names_a_task(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("must name a task, got blanks only")
        return text


class NotHereError(ValueError):
    """A setting of a slot that this server does not have.

    Attributes:
        field: the setting.
        reason: what is missing.
    """

    def __init__(self, field: str, lacks: str) -> None:
        self.field = field
        self.reason = f"this server has no {lacks}"
        super().__init__(f"{field}: {self.reason}")


def settings_of(server: Administered) -> LiveSettings:
    """The settings in force."""
    prompts, version = server.prompts.snapshot
    values: dict[str, Any] = {"default_prompt": prompts.default_prompt}
    if server.has_planner:
        values["generation_prompt_format"] = prompts.generation_prompt_format
        if server.has_action:
            values["action_prompt_template"] = prompts.action_prompt_template
    if server.has_action:
        action = server.slots()["action"]
        values["max_wait_ms"] = action.max_wait_ms
        if action.replicas is not None:
            values["replicas"] = action.replicas.counts.wanted
    return LiveSettings(**values, log_level=server.log_level(), prompt_version=version)


def apply(server: Administered, change: LiveChange) -> LiveSettings:
    """Changes all the given settings at once.

    Raises:
        NotHereError: nothing has changed.
    """
    given = change.model_dump(exclude_unset=True)
    for field, slots in _NEEDS.items():
        for slot in slots:
            if field in given and not getattr(server, f"has_{slot}"):
                raise NotHereError(field, f"{slot} slot")
    replicas = server.slots()["action"].replicas if server.has_action else None
    if "replicas" in given and replicas is None:
        raise NotHereError("replicas", "replicas: they need action.engine ray, and a ready policy")
    level = given.pop("log_level", None)
    if "replicas" in given and replicas is not None:
        replicas.resize(given.pop("replicas"))
    if "max_wait_ms" in given:
        max_wait_ms = given.pop("max_wait_ms")
        for name, watched in server.slots().items():
            # slots on demand hold policies, too
            if name == "action" or watched.loads_on_demand:
                watched.max_wait_ms = max_wait_ms
    if given:
        server.prompts.change(**given)
    if level is not None:
        server.set_log_level(level)
    settings = settings_of(server)
    if change.model_fields_set:
        changed = change.model_dump(exclude_unset=True)
        log.warning("settings changed", **changed, prompt_version=settings.prompt_version)
    return settings


_NEEDS = {
    "max_wait_ms": ("action",),
    "generation_prompt_format": ("planner",),
    "action_prompt_template": ("action", "planner"),
}

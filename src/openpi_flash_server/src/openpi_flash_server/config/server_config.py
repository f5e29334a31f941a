"""The server's whole configuration: its groups of settings, and the checks between them.

An environment variable (`OPENPI_ACTION__DEFAULT_PROMPT`) overrides the file, which overrides the
defaults of the fields. All problems are found before a port is opened or a checkpoint is read, and
are reported with the paths of their fields (`problems.py`).
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from openpi_flash_server.config.action_settings import ActionSettings, ShadowSettings
from openpi_flash_server.config.admin_settings import AdminSettings
from openpi_flash_server.config.field_problem import look_up, problem_at
from openpi_flash_server.config.field_types import Text
from openpi_flash_server.config.files import KEY_RULE, is_key, state_directory, user_path
from openpi_flash_server.config.key_file import keys_of_file
from openpi_flash_server.config.limit_settings import LimitSettings
from openpi_flash_server.config.listen_address import is_loopback, listen_address
from openpi_flash_server.config.live_prompts import Prompts
from openpi_flash_server.config.model_settings import LIVE, Settings
from openpi_flash_server.config.planner_settings import PlannerSettings
from openpi_flash_server.config.positronic_settings import PositronicSettings
from openpi_flash_server.config.recording_settings import RecordingSettings
from openpi_flash_server.config.transport_settings import (
    ActionTransportSettings,
    PlannerTransportSettings,
    TransportSettings,
)


class Mode(enum.StrEnum):
    """The slots that are set. Derived, never configured."""

    ACTION_ONLY = "action_only"
    PLANNER_ONLY = "planner_only"
    COMBINED = "combined"


class ServerConfig(Settings):
    """The whole configuration."""

    # first, since every other field may use the names that these files define
    robot_files: tuple[Text, ...] = Field(
        default=(),
        description="files that define robots and configs of your own (docs/robots.md)",
    )
    action: ActionSettings | None = Field(default=None, description="the action slot")
    planner: PlannerSettings | None = Field(default=None, description="the planner slot")
    shadow: ShadowSettings | None = Field(
        default=None, description="a second policy to compare the action slot's with"
    )
    action_transport: ActionTransportSettings = ActionTransportSettings()
    planner_transport: PlannerTransportSettings = PlannerTransportSettings()
    host: Text = Field(
        default="0.0.0.0",
        description="the address to listen on; 127.0.0.1 keeps the server to this machine, :: is "
        "every address of IPv6 and IPv4",
    )
    positronic: PositronicSettings = PositronicSettings()
    recording: RecordingSettings = RecordingSettings()
    limits: LimitSettings = LimitSettings()
    admin: AdminSettings = AdminSettings()
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="the lowest level of events that are logged",
        json_schema_extra=LIVE,
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="the form of the log's lines; auto is text on a terminal, else one JSON object "
        "a line",
    )
    tracing: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="whether requests with a traceparent become spans of OpenTelemetry, sent over "
        "OTLP; needs openpi_flash_server[otel]",
    )
    api_keys: tuple[str, ...] = Field(
        default=(),
        description="API keys of the clients; without one, here or in api_key_file, every client "
        "is let in. OPENPI_API_KEY holds a single key",
        repr=False,
    )
    api_key_file: Text | None = Field(
        default=None, description="file with more API keys, one a line"
    )
    require_api_keys: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="whether the server refuses to start without API keys unless host is of this "
        "machine alone; a misspelt OPENPI_API_KEYS would else leave it open",
    )
    tls_certificate: Text | None = Field(
        default=None,
        description="PEM file of your certificate for QUIC and wss://, with its chain; default: "
        "one that the server makes and keeps in state_dir",
    )
    tls_key: Text | None = Field(default=None, description="PEM file of its private key")
    state_dir: Text | None = Field(
        default=None,
        description="where the certificate is kept; default $XDG_STATE_HOME/openpi-flash, "
        "or ~/.local/state/openpi-flash",
    )
    expose_tracebacks: Annotated[bool, Field(strict=True)] = Field(
        default=True,
        description="whether openpi's WebSocket clients get tracebacks, as with openpi's server",
    )

    @field_validator("robot_files")
    @classmethod
    def _define_what_they_say(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if files:
            from openpi_flash_models.config.robot_file import add_robot_file

            for file in files:
                look_up(lambda name: add_robot_file(Path(name)), file)
        return files

    @field_validator("host")
    @classmethod
    def _can_be_listened_on(cls, host: str) -> str:
        return listen_address(host)

    @field_validator("api_keys")
    @classmethod
    def _fit_a_header(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for number, key in enumerate(keys):
            # never the key itself: this message is logged
            if not is_key(key):
                raise ValueError(f"key {number} {KEY_RULE}")
        if len(set(keys)) < len(keys):
            raise ValueError("a key is listed twice")
        return keys

    @field_validator("tls_certificate", "tls_key", "state_dir", "api_key_file")
    @classmethod
    def _are_paths(cls, text: str | None) -> str | None:
        if text is not None:
            user_path(text)
        return text

    @model_validator(mode="after")
    def _key_file_can_be_read(self) -> ServerConfig:
        self._keys_of_file = keys_of_file(self.api_key_file)
        return self

    @model_validator(mode="after")
    def _has_the_keys_that_it_requires(self) -> ServerConfig:
        if self.require_api_keys and not self.keys and not is_loopback(self.host):
            raise problem_at(
                "api_keys",
                "missing, and require_api_keys is true; set api_keys, api_key_file or the "
                "variable OPENPI_API_KEY, or host to 127.0.0.1",
            )
        return self

    @model_validator(mode="after")
    def _has_a_certificate_with_its_key(self) -> ServerConfig:
        for given, missing in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
            if getattr(self, given) is not None and getattr(self, missing) is None:
                raise problem_at(missing, f"missing, set it too: {given} is of no use without it")
        return self

    @model_validator(mode="after")
    def _has_a_slot(self) -> ServerConfig:
        if self.action is None and self.planner is None:
            raise ValueError("neither action nor planner is set, configure at least one of them")
        return self

    @model_validator(mode="after")
    def _sessions_have_a_policy(self) -> ServerConfig:
        if self.positronic.codec is None:
            given = sorted(self.positronic.model_fields_set - {"codec"})
            if given:
                raise problem_at("positronic.codec", f"missing, {given[0]} is of no use without it")
        elif self.action is None:
            raise problem_at("positronic.codec", "needs an action slot, set action or remove it")
        elif self.positronic.checkpoints_dir is not None and not self.action.checkpoint_dir:
            raise problem_at(
                "positronic.checkpoints_dir",
                f"is for a policy with a checkpoint, remove it: {self.action.model_config_name} "
                "has none",
            )
        elif self.positronic.checkpoints_dir is not None and self.action.runs_on_ray:
            raise problem_at(
                "positronic.checkpoints_dir",
                "cannot be loaded beside replicas, remove it or action.replicas and engine",
            )
        return self

    @model_validator(mode="after")
    def _shadow_can_be_compared(self) -> ServerConfig:
        if self.shadow is None:
            return self
        if self.action is None:
            raise problem_at("shadow", "needs an action slot, set action or remove it")
        if self.action.runs_on_ray:
            raise problem_at(
                "shadow", "does not run beside replicas, remove it or action.replicas and engine"
            )
        try:
            self._shadow_action = self._make_shadow_action(self.action, self.shadow)
        except ValidationError as error:
            raise _problem_of_shadow(error) from None
        return self

    @staticmethod
    def _make_shadow_action(action: ActionSettings, shadow: ShadowSettings) -> ActionSettings:
        given = shadow.model_dump(exclude_unset=True, exclude_none=True)
        return ActionSettings.model_validate({**action.model_dump(exclude_unset=True), **given})

    @property
    def shadow_action(self) -> ActionSettings | None:
        """The settings of the shadow's policy: the action slot's, with what `shadow` changes."""
        return self._shadow_action

    @model_validator(mode="after")
    def _ports_do_not_clash(self) -> ServerConfig:
        if self.mode is not Mode.COMBINED:
            return self
        for name in ("websocket_port", "quic_port", "unix_socket_path"):
            action, planner = (
                getattr(self.action_transport, name),
                getattr(self.planner_transport, name),
            )
            if action == planner and action not in (0, None):
                raise problem_at(
                    f"planner_transport.{name}", f"{planner} is taken by action_transport.{name}"
                )
        first, second = self.action_transport.relay, self.planner_transport.relay
        if first is not None and second is not None and first.name == second.name:
            raise problem_at(
                "planner_transport.relay.name",
                f"{second.name} is taken by action_transport.relay.name",
            )
        return self

    @model_validator(mode="after")
    def _admin_port_is_free(self) -> ServerConfig:
        for slot in self.slots if self.admin.enabled else ():
            if self.admin.port and self.transport(slot).websocket_port == self.admin.port:
                raise problem_at(
                    "admin.port",
                    f"{self.admin.port} is taken by {slot}_transport.websocket_port",
                )
        return self

    @property
    def prompts(self) -> Prompts:
        """The prompt settings at the start; those of a slot that is not set are the defaults."""
        default_prompt = None if self.action is None else self.action.default_prompt
        if self.planner is None:
            return Prompts(default_prompt)
        return Prompts(
            default_prompt,
            self.planner.generation_prompt_format,
            self.planner.action_prompt_template,
        )

    @property
    def mode(self) -> Mode:
        """The slots that are set."""
        if self.planner is None:
            return Mode.ACTION_ONLY
        return Mode.PLANNER_ONLY if self.action is None else Mode.COMBINED

    @property
    def slots(self) -> list[str]:
        """The names of the slots that are set, in the order in which they are reported."""
        return [name for name in ("action", "planner") if getattr(self, name) is not None]

    def transport(self, slot: str) -> TransportSettings:
        """Where `slot` listens."""
        return self.action_transport if slot == "action" else self.planner_transport

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that lets a client in; empty lets everybody in."""
        return tuple(dict.fromkeys((*self.api_keys, *self._keys_of_file)))

    @property
    def secret_files(self) -> list[str | None]:
        """The files of keys and tokens that only the server's user should be able to read."""
        relays = [self.transport(slot).relay for slot in self.slots]
        tokens = [relay.token_file for relay in relays if relay is not None]
        return [self.api_key_file, self.admin.api_key_file, *tokens]

    def certificate_dir(self, environment: Mapping[str, str] = os.environ) -> Path:
        """Where the certificate is kept.

        Raises:
            ValueError: there is no directory to keep it in.
        """
        return state_directory(self.state_dir, environment)

    def is_default(self, *path: str) -> bool:
        """Whether nobody chose the value of the field at `path`."""
        group: Settings = self
        for name in path[:-1]:
            group = getattr(group, name)
        return path[-1] not in group.model_fields_set

    def remember_origins(self, origins: Mapping[tuple[str, ...], str]) -> None:
        """Records which flag or variable set which field, for later errors."""
        self._origins = dict(origins)

    def origin(self, *path: str) -> str | None:
        """The flag or the environment variable that set the field at `path`, if one did."""
        lengths = range(len(path), 0, -1)
        return next((self._origins[path[:n]] for n in lengths if path[:n] in self._origins), None)

    _origins: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)
    _shadow_action: ActionSettings | None = PrivateAttr(default=None)
    _keys_of_file: tuple[str, ...] = PrivateAttr(default=())


def _problem_of_shadow(error: ValidationError) -> PydanticCustomError:
    """The first problem of the shadow's policy, which has the action slot's settings, too."""
    (first, *_) = error.errors()
    context = first.get("ctx", {})
    field = str(context.get("field") or first["loc"][0])
    message = str(context.get("message") or context.get("error") or first["msg"])
    if field in ShadowSettings.model_fields:
        return problem_at(f"shadow.{field}", message)
    return problem_at("shadow", f"does not fit action.{field}: {message}")

"""The fields of the server's configuration, their defaults and their checks.

An environment variable (`OPENPI_ACTION__DEFAULT_PROMPT`) overrides the file, which overrides the
defaults here. All problems are found before a port is opened or a checkpoint is read, and are
reported with the paths of their fields (`problems.py`).
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from openpi_flash_models.actions.malformed import MalformedTokens
from openpi_flash_models.model.packing import MAX_BATCH
from openpi_flash_models.transforms.normalize import NormalizationChoice
from openpi_flash_server.config.admin_settings import AdminSettings
from openpi_flash_server.config.field_problem import problem_at
from openpi_flash_server.config.files import (
    KEY_RULE,
    is_key,
    read_keys,
    state_directory,
    user_path,
)
from openpi_flash_server.config.listen_address import listen_address
from openpi_flash_server.config.live_prompts import DEFAULT_PROMPTS, Prompts
from openpi_flash_server.config.model_settings import (
    DTYPE,
    LIVE,
    Dtype,
    GraphSettings,
    RtcSettings,
    Settings,
)
from openpi_flash_server.config.policy_name import (
    LEROBOT,
    NULL_MODEL,
    names_inference_config,
    python_name,
)
from openpi_flash_server.config.positronic_settings import PositronicSettings
from openpi_flash_server.config.prompt_template import action_template, planner_template
from openpi_flash_server.config.recording_settings import RecordingSettings

Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
"""0 lets the system choose; the log at the start names the port."""

Text = Annotated[str, Field(strict=True, min_length=1)]

SocketPath = Annotated[str, Field(strict=True, min_length=1, max_length=107)]
"""As long as the system allows for the path of a socket."""

ReloadMemory = Literal["beside", "after"]
"""Whether the device has room for two checkpoints at a time."""

RELOAD_MEMORY = (
    "how another checkpoint takes this one's place (docs/operate.md): beside loads it while this "
    "one serves, and needs memory for both; after frees the memory first"
)

WatchdogSeconds = Annotated[float, Field(strict=True, ge=0, le=3600, allow_inf_nan=False)]

WATCHDOG = (
    "how long a call of the model may take, s: its requests then fail, and the slot takes no "
    "others until the model comes back or is replaced; 0 waits for ever"
)

_WEBSOCKET_PORT = "TCP port of openpi's WebSocket protocol and of /healthz"
_QUIC_PORT = "UDP port of QUIC"
_UNIX_SOCKET_PATH = (
    "file of a unix socket for clients on this computer; their host is unix: and this path"
)


class Mode(enum.StrEnum):
    """The slots that are set. Derived, never configured."""

    ACTION_ONLY = "action_only"
    PLANNER_ONLY = "planner_only"
    COMBINED = "combined"


class ActionSettings(Settings):
    """The slot that answers with chunks of actions."""

    model_config_name: Text = Field(
        description='the inference config, such as pi05_sim_arm; "python:MODULE:NAME" for a policy '
        'of your own, "lerobot" for one of LeRobot (docs/own-policy.md), "null" for a fixed chunk '
        "without a model"
    )
    checkpoint_dir: Annotated[str, Field(strict=True)] = Field(
        default="",
        description="the checkpoint: a directory, or a gs://, hf:// or https:// URL that is "
        "downloaded at the start; none for the null model, optional for a policy of your own",
    )
    default_prompt: Annotated[str, Field(strict=True)] | None = Field(
        default=None,
        description="the task for a request that names none",
        json_schema_extra=LIVE,
    )
    framework: Literal["auto", "jax", "pytorch"] = Field(
        default="auto",
        description="the framework that runs the model; auto is PyTorch for model.safetensors, if "
        "PyTorch is installed, else JAX",
    )
    dtype: Dtype = Field(default="auto", description=DTYPE)
    normalization: NormalizationChoice = Field(
        default="auto",
        description="how state and actions are scaled; auto takes what the inference config says, "
        "then what the checkpoint says, then what openpi does for the model",
    )
    malformed_tokens: MalformedTokens = Field(
        default="error",
        description="the answer if pi0-FAST generates tokens that are no chunk of actions: error "
        "refuses, hold keeps the robot where it was observed, zeros answers zeros in the model's "
        "scaled space, as openpi does",
    )
    max_batch: Annotated[int, Field(strict=True, ge=1, le=MAX_BATCH)] = Field(
        default=1,
        description="the most observations that one call of the model answers, of several sessions "
        "or of one request with a batch; the start compiles a program for 1, 2, 4 and 8 up to this",
    )
    max_wait_ms: Annotated[float, Field(strict=True, ge=0, le=1000, allow_inf_nan=False)] = Field(
        default=3.0,
        description="how long a request waits for another session to share its call, where one is "
        "expected by then; 0 never waits",
        json_schema_extra=LIVE,
    )
    watchdog_s: WatchdogSeconds = Field(default=120.0, description=WATCHDOG)
    reload_memory: ReloadMemory = Field(
        default="beside", description=f"{RELOAD_MEMORY}, and refuses requests meanwhile"
    )
    rtc: RtcSettings = RtcSettings()
    graph: GraphSettings = GraphSettings()

    @field_validator("model_config_name")
    @classmethod
    def _known(cls, name: str) -> str:
        python_name(name)
        if names_inference_config(name):
            # imported here: a server without a model needs no registry
            from openpi_flash_models.config.named_configs import get_config

            _look_up(get_config, name)
        return name

    @model_validator(mode="after")
    def _checkpoint_given(self) -> ActionSettings:
        is_needed = self.names_inference_config or self.model_config_name == LEROBOT
        if is_needed and not self.checkpoint_dir:
            raise problem_at(
                "checkpoint_dir", "missing, set it to the directory or the URL of the checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _model_can_do_it(self) -> ActionSettings:
        if not self.names_inference_config:
            for field in sorted(_OF_OUR_MODELS & self.model_fields_set):
                if self.model_config_name != NULL_MODEL:
                    raise problem_at(
                        field, f"is for our own models, remove it: {self.model_config_name} is none"
                    )
            return self
        from openpi_flash_models.config.named_configs import get_config

        config = get_config(self.model_config_name)
        if config.kind == "pi0_fast" and self.framework == "pytorch":
            raise problem_at(
                "framework", "pi0-FAST runs in JAX only, must be 'auto' or 'jax', got 'pytorch'"
            )
        if self.graph.model_fields_set and self.framework == "pytorch":
            raise problem_at(
                "graph",
                "its switches are for JAX only, remove them or set framework to 'jax', "
                "got framework 'pytorch'",
            )
        # the default method does not count: it is ignored for models without RTC
        wanted = self.rtc.method if self.rtc.model_fields_set else "off"
        if wanted != "off" and config.kind == "pi0_fast":
            raise problem_at(
                "rtc.method",
                f"pi0-FAST cannot continue a previous chunk, must be 'off', got {wanted!r}",
            )
        if wanted != "off" and config.robot.actions_to_model is None:
            raise problem_at(
                "rtc.method",
                f"the robot {config.robot.name} has no actions_to_model, must be 'off', "
                f"got {wanted!r}",
            )
        return self

    @property
    def names_inference_config(self) -> bool:
        """Whether the policy is one of our own models."""
        return names_inference_config(self.model_config_name)


_OF_OUR_MODELS = {"framework", "dtype", "normalization", "malformed_tokens", "rtc", "graph"}


class ShadowSettings(Settings):
    """A second policy that answers copies of the robots' requests; nobody gets its answers."""

    model_config_name: Text | None = Field(
        default=None, description="its inference config; default: action.model_config_name"
    )
    checkpoint_dir: Text | None = Field(
        default=None, description="its checkpoint; default: action.checkpoint_dir"
    )
    default_prompt: Annotated[str, Field(strict=True)] | None = Field(
        default=None,
        description="the task for a request that names none; default: action.default_prompt",
    )


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
            description="the action model's prompt in combined mode; holds {task} and {subtask}",
            json_schema_extra={
                "allOf": [{"pattern": r"\{task\}"}, {"pattern": r"\{subtask\}"}],
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

            _look_up(get_robot, name)
        return name


class TransportSettings(Settings):
    """Where one slot listens."""

    websocket_port: Port = Field(description=_WEBSOCKET_PORT)
    quic_port: Port = Field(description=_QUIC_PORT)
    unix_socket_path: SocketPath | None = Field(default=None, description=_UNIX_SOCKET_PATH)
    dedicated_link: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="true if nothing else uses the link to the robots: QUIC then sends at full "
        "speed whatever the loss, and starves other traffic",
    )

    @field_validator("unix_socket_path")
    @classmethod
    def _is_a_path(cls, text: str | None) -> str | None:
        if text is not None:
            user_path(text)
        return text


class ActionTransportSettings(TransportSettings):
    """Where the action slot listens."""

    websocket_port: Port = Field(default=8000, description=_WEBSOCKET_PORT)
    quic_port: Port = Field(default=5555, description=_QUIC_PORT)


class PlannerTransportSettings(TransportSettings):
    """Where the planner slot listens."""

    websocket_port: Port = Field(default=8002, description=_WEBSOCKET_PORT)
    quic_port: Port = Field(default=5556, description=_QUIC_PORT)


def _problem_of_shadow(error: ValidationError) -> PydanticCustomError:
    """The first problem of the shadow's policy, which has the action slot's settings, too."""
    (first, *_) = error.errors()
    context = first.get("ctx", {})
    field = str(context.get("field") or first["loc"][0])
    message = str(context.get("message") or context.get("error") or first["msg"])
    if field in ShadowSettings.model_fields:
        return problem_at(f"shadow.{field}", message)
    return problem_at("shadow", f"does not fit action.{field}: {message}")


def _look_up(registry: Callable[[str], object], name: str) -> None:
    """Raises a ValueError, as pydantic needs, if the registry does not know the name."""
    try:
        registry(name)
    except (KeyError, ValueError) as error:
        raise ValueError(str(error.args[0]) if error.args else str(error)) from None


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
    tls_certificate: Text | None = Field(
        default=None,
        description="PEM file of your certificate for QUIC, with its chain; default: one that the "
        "server makes and keeps in state_dir",
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
                _look_up(lambda name: add_robot_file(Path(name)), file)
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
        if self.api_key_file is not None:
            try:
                self._keys_of_file = read_keys(user_path(self.api_key_file))
            except ValueError as error:
                raise problem_at("api_key_file", str(error)) from None
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
        return self

    @model_validator(mode="after")
    def _shadow_can_be_compared(self) -> ServerConfig:
        if self.shadow is None:
            return self
        if self.action is None:
            raise problem_at("shadow", "needs an action slot, set action or remove it")
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

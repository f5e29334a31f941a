"""The settings of the action slot, and of the shadow beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from openpi_flash_models.actions.malformed import MalformedTokens
from openpi_flash_models.model.packing import MAX_BATCH
from openpi_flash_models.model.precision import QUANTIZATIONS
from openpi_flash_models.transforms.normalize import NormalizationChoice
from openpi_flash_server.config.field_problem import look_up, problem_at
from openpi_flash_server.config.field_types import (
    RELOAD_MEMORY,
    WATCHDOG,
    ReloadMemory,
    Text,
    WatchdogSeconds,
)
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
from openpi_flash_server.config.replica_settings import RaySettings


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
    engine: Literal["auto", "local", "ray"] = Field(
        default="auto",
        description="where the policy runs: local is in the server's process, ray in a process for "
        "each replica; auto is ray for more than one replica, else local",
    )
    replicas: Annotated[int, Field(strict=True, ge=1, le=256)] = Field(
        default=1,
        description="how many copies of the policy answer at the same time, each on its own GPU; "
        "more than one needs openpi_flash_server[ray] (docs/scaling.md)",
        json_schema_extra=LIVE,
    )
    rtc: RtcSettings = RtcSettings()
    graph: GraphSettings = GraphSettings()
    ray: RaySettings = RaySettings()

    @field_validator("model_config_name")
    @classmethod
    def _known(cls, name: str) -> str:
        python_name(name)
        if names_inference_config(name):
            # imported here: a server without a model needs no registry
            from openpi_flash_models.config.named_configs import get_config

            look_up(get_config, name)
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
        if self.dtype in QUANTIZATIONS:
            if self.framework == "pytorch":
                raise problem_at(
                    "dtype",
                    f"{self.dtype} is for JAX only, set framework to 'jax' or dtype to "
                    "'bfloat16', got framework 'pytorch'",
                )
            if not self.graph.fuse_projections:
                raise problem_at(
                    "dtype", f"{self.dtype} needs graph.fuse_projections, which is switched off"
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

    @model_validator(mode="after")
    def _replicas_have_an_engine(self) -> ActionSettings:
        if self.engine == "local" and self.replicas > 1:
            raise problem_at(
                "engine",
                f"a local policy is one, must be 'auto' or 'ray' for {self.replicas} replicas, "
                "got 'local'",
            )
        if self.ray.model_fields_set and not self.runs_on_ray:
            field = min(self.ray.model_fields_set)
            raise problem_at(
                f"ray.{field}",
                "is of no use without Ray, remove it or set engine to 'ray', "
                f"got {getattr(self.ray, field)!r}",
            )
        return self

    @property
    def runs_on_ray(self) -> bool:
        """Whether the policy runs in other processes, one for each replica."""
        return self.engine == "ray" or (self.engine == "auto" and self.replicas > 1)

    @property
    def of_one_replica(self) -> ActionSettings:
        """The settings of the policy in the process of a replica."""
        return self.model_copy(update={"engine": "local", "replicas": 1, "ray": RaySettings()})

    @property
    def names_inference_config(self) -> bool:
        """Whether the policy is one of our own models."""
        return names_inference_config(self.model_config_name)


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


_OF_OUR_MODELS = {"framework", "dtype", "normalization", "malformed_tokens", "rtc", "graph"}

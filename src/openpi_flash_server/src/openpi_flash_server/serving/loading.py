"""Loads and warms up the handlers of a configuration."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openpi_flash_models.model.rearrangements import Rearrangements
from openpi_flash_models.policy.policy_protocol import ActionPolicy
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.config.model_settings import Dtype, GraphSettings
from openpi_flash_server.config.policy_name import NULL_MODEL
from openpi_flash_server.config.server_config import (
    ActionSettings,
    PlannerSettings,
    ServerConfig,
)
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.combined import CombinedHandler, task_reader
from openpi_flash_server.handlers.null_policy import NullPolicy
from openpi_flash_server.handlers.planning import Planner, PlannerHandler
from openpi_flash_server.handlers.subtask_board import Pace
from openpi_flash_server.handlers.subtask_feed import SubtaskFeed
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.own_policy.errors import PolicyLoadError
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.framework_memory import leave_memory_to_pytorch
from openpi_flash_server.serving.metadata import action_metadata, planner_metadata
from openpi_flash_server.serving.model_library import ModelLibrary
from openpi_flash_server.serving.own_policy_loading import load_own_policy
from openpi_flash_server.slot.gate import Gate
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.runner import Handler
from openpi_flash_server.slot.slot import Slot

log = EventLogger(__name__)


@dataclass(frozen=True)
class Loaders:
    """The functions that load models.

    Attributes:
        policy: settings of the action slot -> policy.
        planner: settings of the planner slot, robot whose requests it reads -> planner.
        download: fetches what the settings name to this machine, if it is not there; returns at
            once if it is. None: the other two do it.
    """

    policy: Callable[[ActionSettings], ActionPolicy]
    planner: Callable[[PlannerSettings, str | None], Planner]
    download: Callable[[ActionSettings | PlannerSettings], None] | None = None


@dataclass(frozen=True)
class LoadedSlot:
    """A slot that can be opened: its handler is warm.

    Attributes:
        name: of the slot.
        handler: answers its requests.
        metadata: for its clients.
        gate: holds requests back; None holds none.
        turns: of a device that another slot uses, too.
    """

    name: str
    handler: Handler
    metadata: Mapping[str, Any]
    gate: Gate | None = None
    turns: DeviceTurns | None = None


def load_slots(
    config: ServerConfig,
    slots: Mapping[str, Slot],
    loaders: Loaders,
    library: ModelLibrary[ActionPolicy],
    *,
    prompts: LivePrompts,
    turns: DeviceTurns,
) -> list[LoadedSlot]:
    """Loads and warms up all that `config` names, one after the other.

    Args:
        config: what to load.
        slots: the slots by name; they get the stage of the start, for /healthz.
        loaders: load the models.
        library: keeps the policy.
        prompts: in force for all slots.
        turns: of the device, which an action model and a planner share.
    """
    loaded = []
    policy = None
    if config.action is not None:
        policy = acquire_policy(config.action, slots, loaders, library)
    if config.planner is not None:
        robot = config.planner.robot
        if robot is None and policy is not None and policy.spec.robot != NULL_MODEL:
            robot = policy.spec.robot or None
        _download(config.planner, slots, loaders)
        leave_memory_to_pytorch(sys.modules, os.environ)
        with _stage(
            slots,
            Stage.LOADING,
            "loading the planner model",
            "planner model loaded",
            checkpoint=config.planner.checkpoint_dir,
        ):
            planner = loaders.planner(config.planner, robot)
        with _stage(slots, Stage.COMPILING, "compiling the planner model", "planner model is warm"):
            planner.warm_up()
        default_prompt = _default_prompt(config.action) if config.action is not None else None
        handler: Handler = PlannerHandler(
            planner,
            prompts,
            default_prompt=default_prompt,
            turns=turns if policy is not None else None,
        )
        metadata = planner_metadata(policy.spec if policy is not None else None, planner.checkpoint)
        loaded.append(LoadedSlot("planner", handler, metadata))
    if policy is not None and config.action is not None:
        loaded.append(
            action_slot(policy, config.action, config.planner, slots, prompts=prompts, turns=turns)
        )
    return loaded


def acquire_policy(
    settings: ActionSettings,
    slots: Mapping[str, Slot],
    loaders: Loaders,
    library: ModelLibrary[ActionPolicy],
    key: Hashable | None = None,
) -> ActionPolicy:
    """The policy of `settings`, loaded and warm; arguments as of `load_slots`.

    Args:
        settings: which policy.
        slots: as there.
        loaders: as there.
        library: as there.
        key: of the policy in the library; None: its settings.
    """

    def load() -> ActionPolicy:
        _download(settings, slots, loaders)
        with _stage(
            slots,
            Stage.LOADING,
            "loading the action model",
            "action model loaded",
            model=settings.model_config_name,
            checkpoint=settings.checkpoint_dir,
            **_chosen(settings),
        ):
            policy = loaders.policy(settings)
        stage = Stage.COMPILING if settings.names_inference_config else Stage.WARMING
        with _stage(slots, stage, "compiling the action model", "action model is warm"):
            _warm_up(policy, settings)
        return policy

    return library.acquire(settings if key is None else key, load)


def action_slot(
    policy: ActionPolicy,
    settings: ActionSettings,
    planner: PlannerSettings | None,
    slots: Mapping[str, Slot],
    *,
    prompts: LivePrompts,
    turns: DeviceTurns,
) -> LoadedSlot:
    """The action slot of a loaded policy, beside a planner if there is one."""
    action = ActionHandler(policy, prompts)
    metadata = action_metadata(policy.spec, has_planner=planner is not None)
    if planner is None:
        return LoadedSlot("action", action, metadata)
    default_prompt = _default_prompt(settings)
    feed = SubtaskFeed(
        slots["planner"],
        pace=_pace(planner),
        task_of=task_reader(action, prompts, default_prompt),
    )
    handler = CombinedHandler(action, feed, prompts=prompts, default_prompt=default_prompt)
    return LoadedSlot("action", handler, metadata, gate=feed, turns=turns)


def _pace(settings: PlannerSettings) -> Pace:
    return Pace(
        every_request=settings.schedule == "inline",
        period=1 / settings.refresh_hz,
        longest_wait=settings.max_wait,
        oldest=settings.max_age_ms / 1000,
    )


def _download(
    settings: ActionSettings | PlannerSettings, slots: Mapping[str, Slot], loaders: Loaders
) -> None:
    from openpi_flash_models.checkpoints.fetching import is_missing

    if loaders.download is not None and is_missing(settings.checkpoint_dir):
        what = settings.checkpoint_dir
        with _stage(slots, Stage.DOWNLOADING, f"downloading {what}", f"{what} is downloaded"):
            loaders.download(settings)


def _warm_up(policy: ActionPolicy, settings: ActionSettings) -> None:
    try:
        policy.warm_up()
    except PolicyLoadError as error:
        log.error("the policy could not be warmed up", exception=error.__cause__)
        raise StartError(
            f"action.model_config_name {settings.model_config_name}: {error}"
        ) from error


def _default_prompt(settings: ActionSettings) -> str | None:
    """The operator's default prompt, else the inference config's; the planner uses it too."""
    if settings.default_prompt is not None or not settings.names_inference_config:
        return settings.default_prompt
    from openpi_flash_models.config.named_configs import get_config

    return get_config(settings.model_config_name).default_prompt


def download(settings: ActionSettings | PlannerSettings) -> None:
    """Fetches the checkpoint that the settings name, unless it is on this machine."""
    from openpi_flash_models.checkpoints.fetching import (
        fetch_planner_checkpoint,
        fetch_policy_checkpoint,
    )
    from openpi_flash_models.downloads import fetch

    if isinstance(settings, PlannerSettings):
        with _naming("planner.checkpoint_dir"):
            fetch_planner_checkpoint(settings.checkpoint_dir)
        return
    with _naming("action.checkpoint_dir"):
        if settings.names_inference_config:
            fetch_policy_checkpoint(settings.checkpoint_dir, settings.model_config_name)
        else:
            fetch(settings.checkpoint_dir)


def load_policy(settings: ActionSettings) -> ActionPolicy:
    """The policy that the settings name."""
    if settings.model_config_name == NULL_MODEL:
        return NullPolicy()
    if not settings.names_inference_config:
        return load_own_policy(settings)
    from openpi_flash_models.checkpoints.fetching import fetch_policy_checkpoint

    with _naming("action.checkpoint_dir"):
        checkpoint = fetch_policy_checkpoint(settings.checkpoint_dir, settings.model_config_name)
        from openpi_flash_models.load import load_policy as load

        return load(
            settings.model_config_name,
            checkpoint,
            default_prompt=settings.default_prompt,
            framework=settings.framework,
            dtype=_dtype(settings.dtype),
            graph=_graph(settings.graph),
            rtc=settings.rtc.options(),
            max_batch=settings.max_batch,
            normalization=settings.normalization,
            malformed_tokens=settings.malformed_tokens,
        )


def load_planner(settings: PlannerSettings, robot: str | None) -> Planner:
    """The planner that the settings name, with the cameras of `robot`."""
    from openpi_flash_models.checkpoints.fetching import fetch_planner_checkpoint

    with _naming("planner.checkpoint_dir"):
        checkpoint = fetch_planner_checkpoint(settings.checkpoint_dir)
        from openpi_flash_models.load import load_planner as load

        return load(
            checkpoint,
            max_generation_tokens=settings.max_generation_tokens,
            generation_prompt_format=settings.generation_prompt_format,
            robot=robot,
            dtype=_dtype(settings.dtype),
            missing_cameras=settings.missing_cameras,
            block_tokens=settings.block_tokens,
        )


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    """Adds the setting to errors about a checkpoint."""
    from openpi_flash_models.errors import CheckpointError, DownloadError

    try:
        yield
    except (CheckpointError, DownloadError) as error:
        raise StartError(f"{field}: {error}") from error


def _dtype(name: Dtype) -> str | None:
    return None if name == "auto" else name


def _chosen(settings: ActionSettings) -> dict[str, object]:
    """The settings of how the model computes that were given, for the log."""
    given = settings.model_dump(exclude_unset=True, include=_CHOICES)
    chosen: dict[str, object] = {}
    for name, value in given.items():
        inner = value if isinstance(value, dict) else {"": value}
        chosen |= {f"{name}.{key}".rstrip("."): choice for key, choice in inner.items()}
    return chosen


def _graph(settings: GraphSettings) -> Rearrangements | None:
    """The switches, if one was set: they are for JAX only."""
    if not settings.model_fields_set:
        return None
    from openpi_flash_models.jax_models.build import graph_of_device

    return settings.options(graph_of_device())


@contextlib.contextmanager
def _stage(
    slots: Mapping[str, Slot], stage: Stage, doing: str, done: str, **fields: object
) -> Iterator[None]:
    """A stage of the start: logs its begin and its end, and sets the text of /healthz."""
    for slot in slots.values():
        slot.prepares(stage, f"warming up: {doing}")
    log.info(doing, stage=str(stage), **fields)
    started = time.monotonic()
    yield
    log.info(done, seconds=time.monotonic() - started)


_CHOICES = {"framework", "dtype", "rtc", "graph", "max_batch", "normalization", "malformed_tokens"}

LOADERS = Loaders(policy=load_policy, planner=load_planner, download=download)

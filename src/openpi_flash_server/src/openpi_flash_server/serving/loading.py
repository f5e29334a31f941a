"""Makes the slots of a configuration from their models, loaded and warm."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openpi_flash_models.policy.policy_protocol import ActionPolicy, PolicySpec
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.config.planner_settings import PlannerSettings
from openpi_flash_server.config.policy_name import NULL_MODEL
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.combined import CombinedHandler, task_reader
from openpi_flash_server.handlers.planning import Planner, PlannerHandler
from openpi_flash_server.handlers.subtask_board import Pace
from openpi_flash_server.handlers.subtask_feed import SubtaskFeed
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.own_policy.errors import PolicyLoadError
from openpi_flash_server.replicas.replicas import Replicas
from openpi_flash_server.replicas.replicated_policy import ReplicatedPolicy
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.framework_memory import leave_memory_to_pytorch
from openpi_flash_server.serving.metadata import action_metadata, planner_metadata
from openpi_flash_server.serving.model_library import ModelLibrary
from openpi_flash_server.serving.model_loading import download, load_planner, load_policy
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
        replicas: that run the policy; None: it runs in this process.
        spec: of the policy that answers; None for a planner.
    """

    name: str
    handler: Handler
    metadata: Mapping[str, Any]
    gate: Gate | None = None
    turns: DeviceTurns | None = None
    replicas: Replicas | None = None
    spec: PolicySpec | None = None


def load_slots(
    config: ServerConfig,
    slots: Mapping[str, Slot],
    loaders: Loaders,
    policies: ModelLibrary[ActionPolicy],
    planners: ModelLibrary[Planner],
    *,
    prompts: LivePrompts,
    turns: DeviceTurns,
) -> list[LoadedSlot]:
    """Loads and warms up all that `config` names, one after the other.

    Args:
        config: what to load.
        slots: the slots by name; they get the stage of the start, for /healthz.
        loaders: load the models.
        policies: keeps the policy.
        planners: keeps the planner.
        prompts: in force for all slots.
        turns: of the device, which an action model and a planner share.
    """
    loaded = []
    policy = None
    if config.action is not None:
        policy = acquire_policy(config.action, slots.values(), loaders, policies)
    if config.planner is not None:
        spec = None if policy is None else policy.spec
        planner = acquire_planner(config.planner, spec, slots.values(), loaders, planners)
        loaded.append(planner_slot(planner, config.action, spec, prompts=prompts, turns=turns))
    if policy is not None and config.action is not None:
        planner_of = slots.get("planner")
        loaded.append(
            action_slot(
                policy, config.action, config.planner, planner_of, prompts=prompts, turns=turns
            )
        )
    return loaded


def acquire_policy(
    settings: ActionSettings,
    slots: Iterable[Slot],
    loaders: Loaders,
    library: ModelLibrary[ActionPolicy],
    *,
    key: Hashable | None = None,
) -> ActionPolicy:
    """The policy of `settings`, loaded and warm.

    Args:
        settings: which policy.
        slots: get the stage, unless they are open.
        loaders: load it.
        library: keeps it.
        key: of the policy in the library; None: its settings.
    """
    slots = tuple(slots)

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


def end_policy(policy: ActionPolicy) -> None:
    """Ends the processes of a policy that nobody uses, if it has any."""
    if isinstance(policy, ReplicatedPolicy):
        policy.close()


def acquire_planner(
    settings: PlannerSettings,
    spec: PolicySpec | None,
    slots: Iterable[Slot],
    loaders: Loaders,
    library: ModelLibrary[Planner],
    *,
    key: Hashable | None = None,
) -> Planner:
    """The planner of `settings`, loaded and warm; the other arguments are as of `acquire_policy`.

    Args:
        settings: which planner.
        spec: of the policy beside it, whose robot's cameras it reads; None: there is none.
        slots: as there.
        loaders: as there.
        library: as there.
        key: as there.
    """
    slots = tuple(slots)
    robot = settings.robot
    if robot is None and spec is not None and spec.robot != NULL_MODEL:
        robot = spec.robot or None

    def load() -> Planner:
        _download(settings, slots, loaders)
        leave_memory_to_pytorch(sys.modules, os.environ)
        with _stage(
            slots,
            Stage.LOADING,
            "loading the planner model",
            "planner model loaded",
            checkpoint=settings.checkpoint_dir,
        ):
            planner = loaders.planner(settings, robot)
        with _stage(slots, Stage.COMPILING, "compiling the planner model", "planner model is warm"):
            planner.warm_up()
        return planner

    return library.acquire(settings if key is None else key, load)


def planner_slot(
    planner: Planner,
    action: ActionSettings | None,
    spec: PolicySpec | None,
    *,
    prompts: LivePrompts,
    turns: DeviceTurns,
) -> LoadedSlot:
    """The planner slot of a loaded planner.

    Args:
        planner: warm.
        action: settings of the action slot beside it; None: there is none.
        spec: of that slot's policy.
        prompts: in force for all slots.
        turns: of the device that both use.
    """
    handler = PlannerHandler(
        planner,
        prompts,
        default_prompt=None if action is None else default_prompt_of(action),
        turns=None if action is None else turns,
    )
    return LoadedSlot("planner", handler, planner_metadata(spec, planner.checkpoint))


def action_slot(
    policy: ActionPolicy,
    settings: ActionSettings,
    planner: PlannerSettings | None,
    planner_slot: Slot | None,
    *,
    prompts: LivePrompts,
    turns: DeviceTurns,
) -> LoadedSlot:
    """The action slot of a loaded policy, beside the slot of a planner if there is one."""
    action = ActionHandler(policy, prompts)
    metadata = action_metadata(policy.spec, has_planner=planner is not None)
    replicas = policy.replicas if isinstance(policy, ReplicatedPolicy) else None
    if planner is None or planner_slot is None:
        return LoadedSlot("action", action, metadata, replicas=replicas, spec=policy.spec)
    default_prompt = default_prompt_of(settings)
    feed = SubtaskFeed(
        planner_slot,
        pace=_pace(planner),
        task_of=task_reader(action, prompts, default_prompt),
    )
    handler = CombinedHandler(action, feed, prompts=prompts, default_prompt=default_prompt)
    return LoadedSlot(
        "action",
        handler,
        metadata,
        gate=feed,
        # replicas have devices of their own
        turns=turns if replicas is None else None,
        replicas=replicas,
        spec=policy.spec,
    )


def default_prompt_of(settings: ActionSettings) -> str | None:
    """The operator's default prompt, else the inference config's; the planner uses it too."""
    if settings.default_prompt is not None or not settings.names_inference_config:
        return settings.default_prompt
    from openpi_flash_models.config.named_configs import get_config

    return get_config(settings.model_config_name).default_prompt


def _pace(settings: PlannerSettings) -> Pace:
    return Pace(
        every_request=settings.schedule == "inline",
        period=1 / settings.refresh_hz,
        longest_wait=settings.max_wait,
        oldest=settings.max_age_ms / 1000,
    )


def _download(
    settings: ActionSettings | PlannerSettings, slots: Sequence[Slot], loaders: Loaders
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


def _chosen(settings: ActionSettings) -> dict[str, object]:
    """The settings of how the model computes that were given, for the log."""
    given = settings.model_dump(exclude_unset=True, include=_CHOICES)
    chosen: dict[str, object] = {}
    for name, value in given.items():
        inner = value if isinstance(value, dict) else {"": value}
        chosen |= {f"{name}.{key}".rstrip("."): choice for key, choice in inner.items()}
    return chosen


@contextlib.contextmanager
def _stage(
    slots: Sequence[Slot], stage: Stage, doing: str, done: str, **fields: object
) -> Iterator[None]:
    """A stage of the start: logs its begin and its end, and sets the text of /healthz."""
    for slot in slots:
        slot.prepares(stage, f"warming up: {doing}")
    log.info(doing, stage=str(stage), **fields)
    started = time.monotonic()
    yield
    log.info(done, seconds=time.monotonic() - started)


_CHOICES = {"framework", "dtype", "rtc", "graph", "max_batch", "normalization", "malformed_tokens"}

LOADERS = Loaders(policy=load_policy, planner=load_planner, download=download)

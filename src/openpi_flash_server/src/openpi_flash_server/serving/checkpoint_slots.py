"""The checkpoints that Positronic's sessions may ask for: the action slot's own, and others.

Each of the others gets a slot of its own when a session asks for it, so that no session is ever
answered by the weights of another one.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.server_config import ActionSettings, ServerConfig
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.positronic.checkpoint_names import checkpoint_names, find_checkpoint
from openpi_flash_server.positronic.checkpoint_queue import Admit, CheckpointQueue, Load
from openpi_flash_server.positronic.codecs import ChunkTiming
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.runners.job_thread import JobThread
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.slot.event_log import EventLog
from openpi_flash_server.slot.gate import Gate
from openpi_flash_server.slot.runner import Handler
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.websocket.checkpoint_source import (
    Lease,
    Unavailable,
    Waiting,
)
from openpi_flash_server.transports.websocket.positronic_protocol import PositronicSessions

log = EventLogger(__name__)

Ready = Callable[[Lease | Unavailable], None]


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A policy in memory.

    Attributes:
        handler: warm.
        metadata: what clients are told of it.
        unload: gives the memory back.
        gate: may hold requests back; None holds none.
        turns: of a device that another slot uses, too.
    """

    handler: Handler
    metadata: Mapping[str, Any]
    unload: Callable[[], None]
    gate: Gate | None = None
    turns: DeviceTurns | None = None


@dataclass(frozen=True)
class ServedPolicy:
    """What the action slot serves now.

    Attributes:
        settings: of the policy.
        metadata: what clients are told of it.
        slot: answers.
    """

    settings: ActionSettings
    metadata: Mapping[str, Any]
    slot: Slot


class CheckpointSlots:
    """A `CheckpointSource`. May be called from any thread.

    Args:
        config: names the directory, and how many checkpoints may be in memory.
        served: what the action slot serves, once it is open.
        load: loads a checkpoint; may take minutes.
        watch: is told of each slot before it opens, and of what it serves.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        served: Callable[[], ServedPolicy],
        load: Callable[[ActionSettings], LoadedCheckpoint],
        watch: Callable[[Slot, Mapping[str, Any]], None],
    ) -> None:
        given = config.positronic.checkpoints_dir
        self._directory = None if given is None else user_path(given)
        self._served = served
        self._load = load
        self._watch = watch
        self._queue = CheckpointQueue(config.positronic.max_checkpoints)
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._wanted: dict[int, tuple[ServedPolicy, Ready]] = {}
        self._slots: dict[str, tuple[Slot, LoadedCheckpoint]] = {}
        self._closed = False
        self._loading = JobThread("checkpoints")

    def names(self) -> list[str]:
        """The checkpoints of the directory, and the action slot's own; reads the disk."""
        return self._names(self._served().settings)

    def request(self, name: str | None, ready: Ready) -> Waiting:
        """Asks for a checkpoint by its name; None is the action slot's own."""
        served = self._served()
        names = self._names(served.settings)
        own = _name_of(served.settings)
        found = own if name is None else name if name in names else find_checkpoint(name, names)
        is_own = name is None or (found == own and self._has_own_name(served.settings))
        number = next(self._numbers)
        if found is None:
            known = ", ".join(names[-_NAMED:])
            reason = f"Checkpoint not found or invalid ID: {shown(str(name))}. Known: {known}"
            ready(Unavailable(reason))
        elif is_own:
            ready(_lease(served, found, served.slot, served.metadata, lambda: None))
        else:
            with self._lock:
                self._wanted[number] = served, ready
                self._queue.ask(number, found)
            self._advance()
        return Waiting(lambda: self._status(number, found), lambda: self._cancel(number))

    def _names(self, settings: ActionSettings) -> list[str]:
        names = [] if self._directory is None else checkpoint_names(self._directory)
        own = _name_of(settings)
        return names if own in names else [*names, own]

    def _has_own_name(self, settings: ActionSettings) -> bool:
        """Whether the action slot's checkpoint is the only one that its name can mean."""
        own = _name_of(settings)
        if self._directory is None or not (self._directory / own).is_dir():
            return True
        return (self._directory / own).resolve() == user_path(settings.checkpoint_dir).resolve()

    def close(self, *, grace: float) -> bool:
        """Ends the slots of the other checkpoints; none is loaded any more.

        Args:
            grace: how long their requests may still run, all slots together, s.

        Returns:
            Whether every request was run in time.
        """
        end = time.monotonic() + grace
        with self._lock:
            self._closed = True
            slots = [slot for slot, _ in self._slots.values()]
        for slot in slots:
            slot.stop_accepting()
        finished = [slot.close(grace=max(0.0, end - time.monotonic())) for slot in slots]
        # a checkpoint that is being loaded cannot be interrupted
        self._loading.close(0)
        return all(finished)

    def _status(self, number: int, name: str | None) -> tuple[str, str]:
        with self._lock:
            sessions = self._queue.sessions_before(number)
        if sessions:
            return "waiting", f"Waiting for {sessions} active session(s) to finish..."
        return "loading", f"Loading checkpoint {name}..."

    def _cancel(self, number: int) -> None:
        with self._lock:
            self._queue.cancel(number)
            self._wanted.pop(number, None)
        self._advance()

    def _left(self, name: str) -> None:
        with self._lock:
            self._queue.left(name)
        self._advance()

    def _advance(self) -> None:
        while True:
            with self._lock:
                step = None if self._closed else self._queue.step()
                if step is None:
                    return
                if isinstance(step, Load):
                    former = None if step.unload is None else self._slots.pop(step.unload)
                    served, _ = next(
                        wanted
                        for number, wanted in self._wanted.items()
                        if self._queue.wants(number) == step.name
                    )
                    self._loading.do(self._loader(step, former, served.settings))
                    continue
                served, ready = self._wanted.pop(step.request)
                slot, loaded = self._slots[step.name]
            ready(_lease(served, step.name, slot, loaded.metadata, self._releaser(step)))

    def _releaser(self, admitted: Admit) -> Callable[[], None]:
        return lambda: self._left(admitted.name)

    def _loader(
        self,
        step: Load,
        former: tuple[Slot, LoadedCheckpoint] | None,
        settings: ActionSettings,
    ) -> Callable[[], None]:
        def load() -> None:
            try:
                if former is not None:
                    former[0].close(grace=_LAST_BATCH)
                    former[1].unload()
                    log.info("checkpoint unloaded", checkpoint=step.unload)
                self._loaded(step.name, self._load(self._settings_of(step.name, settings)))
            except BaseException as error:
                self._failed(step.name, error)

        return load

    def _settings_of(self, name: str, settings: ActionSettings) -> ActionSettings:
        assert self._directory is not None
        return settings.model_copy(update={"checkpoint_dir": str(self._directory / name)})

    def _loaded(self, name: str, loaded: LoadedCheckpoint) -> None:
        slot = Slot(f"action-{name}")
        slot.subscribe(EventLog(slot.name))
        self._watch(slot, loaded.metadata)
        runner = OwnThread(f"slot-{slot.name}", loaded.handler, turns=loaded.turns)
        slot.open(runner, loaded.gate)
        with self._lock:
            self._slots[name] = slot, loaded
            self._queue.loaded(name)
            closed = self._closed
        log.info("checkpoint loaded for sessions", checkpoint=name)
        if closed:
            slot.close(grace=0)
        self._advance()

    def _failed(self, name: str, error: BaseException) -> None:
        log.error("checkpoint could not be loaded", exception=error, checkpoint=name)
        with self._lock:
            wanted = [self._wanted.pop(number) for number in self._queue.failed(name)]
        for _, ready in wanted:
            ready(Unavailable(f"checkpoint {name} cannot be loaded: {shown(str(error))}"))
        self._advance()


def positronic_sessions(config: ServerConfig, checkpoints: CheckpointSlots) -> PositronicSessions:
    """How the configuration wants sessions to be answered; it names a codec."""
    settings = config.positronic
    assert settings.codec is not None
    return PositronicSessions(
        codec=settings.codec,
        timing=ChunkTiming(settings.action_fps, settings.action_horizon_sec),
        flip_grip=settings.flip_grip,
        checkpoints=checkpoints,
        host=config.host,
    )


def _lease(
    served: ServedPolicy,
    name: str,
    slot: Slot,
    metadata: Mapping[str, Any],
    release: Callable[[], None],
) -> Lease:
    checkpoint = metadata.get("checkpoint")
    directory = Path(served.settings.checkpoint_dir)
    return Lease(
        name=name,
        directory=str(directory.parent) if served.settings.checkpoint_dir else "",
        config_name=served.settings.model_config_name,
        slot=slot,
        digest=checkpoint.get("digest") if isinstance(checkpoint, Mapping) else None,
        release=release,
    )


def _name_of(settings: ActionSettings) -> str:
    """The checkpoint's name: the last part of its path or URL; the model's for one without."""
    return settings.checkpoint_dir.rstrip("/").rpartition("/")[2] or settings.model_config_name


_NAMED = 20
"""Checkpoints that a refusal lists."""
_LAST_BATCH = 60.0
"""s that the last request of an unloaded checkpoint may run."""

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

from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.files import user_path
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.positronic.checkpoint_names import checkpoint_names, find_checkpoint
from openpi_flash_server.positronic.checkpoint_queue import Admit, CheckpointQueue, Load
from openpi_flash_server.positronic.codecs import ChunkTiming
from openpi_flash_server.runners.job_thread import JobThread
from openpi_flash_server.serving.checkpoint_slot import CheckpointSlot, LoadedCheckpoint
from openpi_flash_server.slot.events import Event, GivenUp
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.voice import Listener
from openpi_flash_server.transports.websocket.checkpoint_source import (
    Lease,
    Unavailable,
    Waiting,
)
from openpi_flash_server.transports.websocket.positronic_protocol import PositronicSessions

log = EventLogger(__name__)

Ready = Callable[[Lease | Unavailable], None]


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


@dataclass(frozen=True)
class SlotWatch:
    """What a service does for a checkpoint's slot besides serving.

    Attributes:
        begins: watches the slot from now on; it does not take requests yet.
        serves: notes what the slot serves; returns what clients are told.
        ends: the slot is gone.
    """

    begins: Callable[[CheckpointSlot], None]
    serves: Callable[[CheckpointSlot, Mapping[str, Any]], Mapping[str, Any]]
    ends: Callable[[CheckpointSlot], None]


class CheckpointSlots:
    """A `CheckpointSource`. May be called from any thread.

    Args:
        config: names the directory, and how many checkpoints may be in memory.
        served: what the action slot serves, once it is open.
        load: loads a checkpoint for a slot, which gets the stage; may take minutes.
        make_slot: a slot for the checkpoint of that name.
        watch: is told of each slot.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        served: Callable[[], ServedPolicy],
        load: Callable[[ActionSettings, Slot], LoadedCheckpoint],
        make_slot: Callable[[str], CheckpointSlot],
        watch: SlotWatch,
    ) -> None:
        given = config.positronic.checkpoints_dir
        self._directory = None if given is None else user_path(given)
        self._served = served
        self._load = load
        self._make_slot = make_slot
        self._watch = watch
        self._queue = CheckpointQueue(config.positronic.max_checkpoints)
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._wanted: dict[int, tuple[ServedPolicy, Ready]] = {}
        self._slots: dict[str, CheckpointSlot] = {}
        self._closed = False
        self._loading = JobThread("checkpoints")

    @property
    def is_loading(self) -> bool:
        """Whether a checkpoint is being loaded."""
        with self._lock:
            return self._queue.is_loading

    def log_traffic(self) -> None:
        """Logs for each slot what happened to its requests since the last call."""
        with self._lock:
            slots = list(self._slots.values())
        for slot in slots:
            slot.traffic.log_summary()

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
            slots = list(self._slots.values())
        for slot in slots:
            slot.slot.stop_accepting()
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
            slot = self._slots[name]
        if slot.slot.hangs:
            self._loading.do(lambda: self._unload_hanging(name, slot))
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
                    self._loading.do(self._loader(step.name, former, served.settings))
                    continue
                served, ready = self._wanted.pop(step.request)
                slot = self._slots[step.name]
            ready(_lease(served, step.name, slot.slot, slot.metadata or {}, self._releaser(step)))

    def _releaser(self, admitted: Admit) -> Callable[[], None]:
        return lambda: self._left(admitted.name)

    def _loader(
        self, name: str, former: CheckpointSlot | None, settings: ActionSettings
    ) -> Callable[[], None]:
        def load() -> None:
            slot = None
            try:
                if former is not None:
                    self._unload(former)
                slot = self._make_slot(name)
                self._watch.begins(slot)
                slot.slot.subscribe(self._hanging_listener(name, slot))
                loaded = self._load(self._settings_of(name, settings), slot.slot)
                slot.open(loaded, self._watch.serves(slot, loaded.metadata))
            except BaseException as error:
                if slot is not None:
                    self._watch.ends(slot)
                    slot.close(grace=0)
                self._failed(name, error)
                return
            self._loaded(name, slot)

        return load

    def _unload(self, slot: CheckpointSlot) -> None:
        ended = slot.close(grace=_LAST_BATCH)
        slot.unload()
        self._watch.ends(slot)
        if ended:
            log.info("checkpoint unloaded", slot=slot.name)
        else:
            log.warning(
                "checkpoint unloaded, but a call of it still runs and keeps its memory",
                slot=slot.name,
            )

    def _hanging_listener(self, name: str, slot: CheckpointSlot) -> Listener:
        def listen(event: Event) -> None:
            if isinstance(event, GivenUp):
                self._loading.do(lambda: self._unload_hanging(name, slot))

        return listen

    def _unload_hanging(self, name: str, slot: CheckpointSlot) -> None:
        """Unloads a checkpoint that hangs once no session uses it: the next one loads it anew."""
        with self._lock:
            if self._closed or self._slots.get(name) is not slot or not slot.slot.hangs:
                return
            if not self._queue.discard(name):
                return
            del self._slots[name]
        self._unload(slot)
        self._advance()

    def _settings_of(self, name: str, settings: ActionSettings) -> ActionSettings:
        assert self._directory is not None
        return settings.model_copy(update={"checkpoint_dir": str(self._directory / name)})

    def _loaded(self, name: str, slot: CheckpointSlot) -> None:
        with self._lock:
            self._slots[name] = slot
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

"""The server as a whole: opens the ports, loads, lets clients in, and stops in order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

from openpi_flash_models.policy.policy_protocol import ActionPolicy
from openpi_flash_server.config.listen_address import is_loopback
from openpi_flash_server.config.server_config import ActionSettings, ServerConfig
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.positronic.codecs import ChunkTiming
from openpi_flash_server.serving.administration import Administration
from openpi_flash_server.serving.checkpoint_slots import (
    CheckpointSlots,
    LoadedCheckpoint,
    ServedPolicy,
)
from openpi_flash_server.serving.endpoint import Endpoint, StartError
from openpi_flash_server.serving.loading import (
    LOADERS,
    Loaders,
    acquire_policy,
    action_slot,
    load_slots,
)
from openpi_flash_server.serving.model_library import ModelLibrary
from openpi_flash_server.serving.recordings import make_recorder
from openpi_flash_server.shadow.shadow import Shadow
from openpi_flash_server.shadow.shadowing_handler import ShadowingHandler
from openpi_flash_server.slot.runner import Handler
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.websocket.positronic_protocol import PositronicSessions

log = EventLogger(__name__)

_LAST_RECORDS = 2.0
"""s for the records that are not written yet when the server stops."""

DRAIN_GRACE = 8.0
"""s for accepted requests after a signal to stop; `docker stop` kills after 10 s."""


class Service:
    """All slots of one configuration. Its ports are open when the constructor returns.

    Args:
        config: what to serve.
        loaders: load the models.

    Raises:
        StartError: a port cannot be listened on.
    """

    def __init__(self, config: ServerConfig, loaders: Loaders = LOADERS) -> None:
        self._config = config
        self._loaders = loaders
        self._library: ModelLibrary[ActionPolicy] = ModelLibrary()
        self._action = config.action
        self.endpoints: dict[str, Endpoint] = {}
        self.admin = Administration(config)
        self._checkpoints: CheckpointSlots | None = None
        self._shadow: Shadow | None = None
        self._shadow_handler: Handler | None = None
        self._recorder = make_recorder(config)
        # a stop may come in the middle of loading: a closed service must not open
        self._opening = threading.Lock()
        self._closed = False
        try:
            for name in config.slots:
                endpoint = self.admin.endpoint(name)
                self.endpoints[name] = endpoint
                log.info(
                    "listening",
                    slot=name,
                    **endpoint.addresses,
                    certificate_sha256=endpoint.quic.fingerprint,
                )
            self._watch_requests()
            self._checkpoints = self._hold_sessions()
            self.admin.open()
        except StartError:
            self.close(grace=0)
            raise
        if not config.keys and not is_loopback(config.host):
            log.warning(
                "INSECURE: listening beyond this machine without api_keys, so everybody who "
                "reaches these ports can use this server; set api_keys or api_key_file, or host "
                "127.0.0.1",
                host=config.host,
            )

    def _watch_requests(self) -> None:
        """Begins to record, and to copy requests to the shadow, as the configuration wants."""
        if self._recorder is not None:
            for name, endpoint in self.endpoints.items():
                endpoint.slot.subscribe(self._recorder.listener(name))
        if self._config.shadow_action is not None:
            slot = self.endpoints["action"].slot
            record = None if self._recorder is None else self._recorder.record
            self._shadow = Shadow(slot, record=record)
            slot.subscribe(self._shadow.listen)

    def _watch_checkpoint(self, slot: Slot, metadata: Mapping[str, Any]) -> None:
        """Records the requests of another checkpoint's slot, too."""
        if self._recorder is not None:
            slot.subscribe(self._recorder.listener(slot.name))
        self._note_served(slot, metadata)

    def _note_served(self, slot: Slot, metadata: Mapping[str, Any]) -> None:
        """Notes for the record what a slot serves, and makes its requests repeatable."""
        if self._recorder is not None:
            self._recorder.describe(slot.name, metadata)
        if self._recorder is not None or self._shadow is not None:
            # with a seed, the same request gets the same answer again
            can_be_repeated = "seed" in metadata.get("supports", ())
            slot.choose_seeds(_new_seed if can_be_repeated else None)

    def _load_shadow(self, settings: ActionSettings) -> Handler:
        slots = {name: endpoint.slot for name, endpoint in self.endpoints.items()}
        policy = acquire_policy(settings, slots, self._loaders, self._library)
        return action_slot(policy, settings, None, slots, self.admin.prompts).handler

    def _serves(self, name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Notes what answers in a slot from now on; returns what its clients are told."""
        told = self.admin.serves(name, metadata)
        self._note_served(self.endpoints[name].slot, told)
        return told

    def _with_shadow(self, handler: Handler) -> Handler:
        """The handler of the action slot, with the shadow's policy beside it."""
        if self._shadow_handler is None:
            return handler
        return ShadowingHandler(handler, self._shadow_handler)

    def _hold_sessions(self) -> CheckpointSlots | None:
        """Lets Positronic's clients ask for checkpoints, if the configuration wants that."""
        settings = self._config.positronic
        if settings.codec is None:
            return None
        endpoint = self.endpoints["action"]
        checkpoints = CheckpointSlots(
            self._config,
            served=self._served_policy,
            load=self._load_checkpoint,
            watch=self._watch_checkpoint,
        )
        endpoint.websocket.hold_sessions(
            PositronicSessions(
                codec=settings.codec,
                timing=ChunkTiming(settings.action_fps, settings.action_horizon_sec),
                flip_grip=settings.flip_grip,
                checkpoints=checkpoints,
                host=self._config.host,
            )
        )
        return checkpoints

    def _served_policy(self) -> ServedPolicy:
        assert self._action is not None
        endpoint = self.endpoints["action"]
        return ServedPolicy(self._action, endpoint.metadata or {}, endpoint.slot)

    def _load_checkpoint(self, settings: ActionSettings) -> LoadedCheckpoint:
        slots = {name: endpoint.slot for name, endpoint in self.endpoints.items()}
        policy = acquire_policy(settings, slots, self._loaders, self._library)
        loaded = action_slot(policy, settings, self._config.planner, slots, self.admin.prompts)
        return LoadedCheckpoint(
            loaded.handler, loaded.metadata, lambda: self._library.release(settings)
        )

    def load(self) -> None:
        """Loads and warms up every model, then lets clients in; minutes for a large model.

        If it is closed meanwhile, it lets nobody in.

        Raises:
            StartError: names what cannot be loaded.
        """
        slots = {name: endpoint.slot for name, endpoint in self.endpoints.items()}
        loaded = load_slots(self._config, slots, self._loaders, self._library, self.admin.prompts)
        if self._config.shadow_action is not None:
            self._shadow_handler = self._load_shadow(self._config.shadow_action)
        with self._opening:
            if self._closed:
                return
            for slot in loaded:
                metadata = self._serves(slot.name, slot.metadata)
                is_action = slot.name == "action"
                handler = self._with_shadow(slot.handler) if is_action else slot.handler
                self.endpoints[slot.name].open(handler, metadata)

    def replace_policy(self, settings: ActionSettings) -> None:
        """Loads another policy beside the running one, then serves with it.

        Requests are answered all the time: by the former policy until the new one is warm.

        Raises:
            StartError: names what cannot be loaded; the former policy goes on.
        """
        slots = {name: endpoint.slot for name, endpoint in self.endpoints.items()}
        policy = acquire_policy(settings, slots, self._loaders, self._library)
        loaded = action_slot(policy, settings, self._config.planner, slots, self.admin.prompts)
        former, self._action = self._action, settings
        self.admin.replaced_action(settings)
        metadata = self._serves("action", loaded.metadata)
        self.endpoints["action"].replace(self._with_shadow(loaded.handler), metadata)
        if former is not None:
            self._library.release(former)

    def log_traffic(self) -> None:
        """Logs for each slot what happened to its requests since the last call, if there were any.

        Times are those of answered requests.
        """
        for endpoint in self.endpoints.values():
            endpoint.traffic.log_summary()
        if self._shadow is not None:
            self._shadow.log_summary()

    @property
    def ready_line(self) -> str:
        """The last line of the start; people and scripts wait for it."""
        return f"Service ready (mode={self._config.mode}, slots={self._config.slots})"

    def close(self, *, grace: float = DRAIN_GRACE) -> bool:
        """Answers accepted requests, refuses others, closes the ports; returns whether in time.

        Args:
            grace: how long to wait for accepted requests, all slots together, s.
        """
        with self._opening:
            self._closed = True
        end = time.monotonic() + grace
        finished = True
        if self._checkpoints is not None:
            self._checkpoints.close(grace=grace)
        if self._shadow is not None:
            self._shadow.close(timeout=grace)
        for endpoint in self.endpoints.values():
            endpoint.stop_accepting()
        # the action slot first: it may be waiting for the planner
        for name in ("action", "planner"):
            if name in self.endpoints:
                left = max(0.0, end - time.monotonic())
                finished &= self.endpoints[name].close(grace=left)
        self.log_traffic()
        if self._recorder is not None:
            # a disk that hangs must not hold up the stop
            self._recorder.close(timeout=_LAST_RECORDS)
        # last, so that probes see the drain
        self.admin.close()
        return finished


def _new_seed() -> int:
    return random.getrandbits(32)

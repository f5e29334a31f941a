"""The server as a whole: opens the ports, loads, lets clients in, and stops in order."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from openpi_flash_models.policy.policy_protocol import ActionPolicy, PolicySpec
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.files import key_file_warning, user_path
from openpi_flash_server.config.listen_address import is_loopback
from openpi_flash_server.config.planner_settings import PlannerSettings
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.planning import Planner
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.serving.administration import Administration
from openpi_flash_server.serving.checkpoint_slot import CheckpointSlot, LoadedCheckpoint
from openpi_flash_server.serving.checkpoint_slots import (
    CheckpointSlots,
    ServedPolicy,
    SlotWatch,
    positronic_sessions,
)
from openpi_flash_server.serving.endpoint import Endpoint, StartError
from openpi_flash_server.serving.loading import (
    LOADERS,
    LoadedSlot,
    Loaders,
    acquire_planner,
    acquire_policy,
    action_slot,
    end_policy,
    load_slots,
    planner_slot,
)
from openpi_flash_server.serving.model_library import ModelLibrary
from openpi_flash_server.serving.model_swap import ModelSwap, SwapSteps
from openpi_flash_server.serving.request_watch import RequestWatch
from openpi_flash_server.slot.events import GivenUp
from openpi_flash_server.slot.slot import Slot

log = EventLogger(__name__)

S = TypeVar("S", ActionSettings, PlannerSettings)

DRAIN_GRACE = 8.0
"""s for accepted requests after a signal to stop; `docker stop` kills after 10 s."""


class Service:
    """All slots of one configuration. Its ports are open when the constructor returns.

    Args:
        config: what to serve.
        loaders: load the models.

    Attributes:
        endpoints: the slots with their ports, by name.
        admin: the operator's side.
        swaps: replace the models, by the names of their slots.

    Raises:
        StartError: a port cannot be listened on.
    """

    def __init__(self, config: ServerConfig, loaders: Loaders = LOADERS) -> None:
        self._config = config
        self._loaders = loaders
        self._policies: ModelLibrary[ActionPolicy] = ModelLibrary(end_policy)
        self._planners: ModelLibrary[Planner] = ModelLibrary()
        self._spec: PolicySpec | None = None
        self._swapping = threading.Lock()
        self.swaps: dict[str, ModelSwap[ActionSettings] | ModelSwap[PlannerSettings]] = {}
        self._turns = DeviceTurns()
        self.endpoints: dict[str, Endpoint] = {}
        self.admin = Administration(config)
        self.watch = RequestWatch(config, self.admin.prompts)
        self._checkpoints: CheckpointSlots | None = None
        # a stop may come in the middle of loading: a closed service must not open
        self._opening = threading.Lock()
        self._closed = False
        try:
            for name in config.slots:
                endpoint = self.admin.endpoint(name)
                self.endpoints[name] = endpoint
                self.watch.attach(endpoint)
                log.info(
                    "listening",
                    slot=name,
                    **endpoint.addresses,
                    certificate_sha256=endpoint.quic.fingerprint,
                )
            self._share_refusals()
            if config.action is not None:
                self._hold_sessions(self._allow_swaps("action", config.action, self._load_action))
            if config.planner is not None:
                self._allow_swaps("planner", config.planner, self._load_planner)
            self.admin.open(self.swaps, self.watch.recorder, self.watch.shadow)
        except StartError:
            self.close(grace=0)
            raise
        for key_file in config.secret_files:
            warning = "" if key_file is None else key_file_warning(user_path(key_file))
            if warning:
                log.warning(warning)
        if not config.keys and not is_loopback(config.host):
            log.warning(
                "INSECURE: listening beyond this machine without api_keys, so everybody who "
                "reaches these ports can use this server; set api_keys or api_key_file, or host "
                "127.0.0.1",
                host=config.host,
            )

    def _share_refusals(self) -> None:
        """Lets all ports and sockets count wrong API keys together."""
        transports = [
            transport
            for endpoint in self.endpoints.values()
            for transport in endpoint.native_transports
        ]
        for transport in transports[1:]:
            transport.share_refusals(transports[0])

    def load(self) -> None:
        """Loads and warms up every model, then lets clients in; minutes for a large model.

        If it is closed meanwhile, it lets nobody in.

        Raises:
            StartError: names what cannot be loaded.
        """
        slots = {name: endpoint.slot for name, endpoint in self.endpoints.items()}
        try:
            loaded = load_slots(
                self._config,
                slots,
                self._loaders,
                self._policies,
                self._planners,
                prompts=self.admin.prompts,
                turns=self._turns,
            )
            self.watch.load_shadow(lambda settings: self._load_shadow(settings, slots.values()))
        except BaseException as error:
            for slot in slots.values():
                slot.has_trouble(f"loading failed: {error}")
            raise
        with self._opening:
            if self._closed:
                return
            self._spec = next((one.spec for one in loaded if one.spec is not None), None)
            for one in loaded:
                metadata = self._serves(one.name, one.metadata)
                handler = self.watch.beside_shadow(one.name, one.handler)
                self.endpoints[one.name].serve_with(
                    handler, metadata, gate=one.gate, turns=one.turns, replicas=one.replicas
                )

    def _serves(self, name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Notes what answers in a slot from now on; returns what its clients are told."""
        told = self.admin.serves(name, metadata)
        self.watch.serves(self.endpoints[name].slot, told)
        return told

    def _load_action(self, settings: ActionSettings, key: Hashable) -> LoadedSlot:
        endpoint = self.endpoints["action"]
        slots = [endpoint.slot]
        if endpoint.replicas is not None:
            # as many as the operator has set meanwhile
            wanted = endpoint.replicas.counts.wanted
            settings = settings.model_copy(update={"replicas": wanted})
        policy = acquire_policy(settings, slots, self._loaders, self._policies, key=key)
        loaded = self._action_slot(policy, settings)
        handler = self.watch.beside_shadow("action", loaded.handler)
        return dataclasses.replace(loaded, handler=handler)

    def _load_planner(self, settings: PlannerSettings, key: Hashable) -> LoadedSlot:
        slots = [self.endpoints["planner"].slot]
        planner = acquire_planner(
            settings, self._spec, slots, self._loaders, self._planners, key=key
        )
        return planner_slot(
            planner, self._config.action, self._spec, prompts=self.admin.prompts, turns=self._turns
        )

    def _load_shadow(self, settings: ActionSettings, slots: Iterable[Slot]) -> ActionHandler:
        """The shadow's policy, which asks no planner; `slots` get the stage."""
        policy = acquire_policy(settings, slots, self._loaders, self._policies)
        return ActionHandler(policy, self.admin.prompts)

    def _load_beside(self, settings: ActionSettings, slots: Iterable[Slot]) -> LoadedSlot:
        """A policy besides that of the action slot; `slots` get the stage."""
        policy = acquire_policy(settings, slots, self._loaders, self._policies)
        return self._action_slot(policy, settings)

    def _action_slot(self, policy: ActionPolicy, settings: ActionSettings) -> LoadedSlot:
        planner = self.endpoints.get("planner")
        return action_slot(
            policy,
            settings,
            self._config.planner,
            None if planner is None else planner.slot,
            prompts=self.admin.prompts,
            turns=self._turns,
        )

    def _hold_sessions(self, swap: ModelSwap[ActionSettings]) -> None:
        """Lets Positronic's clients ask for checkpoints, if the configuration wants that."""

        def served() -> ServedPolicy:
            endpoint = self.endpoints["action"]
            return ServedPolicy(swap.settings, endpoint.metadata or {}, endpoint.slot)

        def load(settings: ActionSettings, slot: Slot) -> LoadedCheckpoint:
            loaded = self._load_beside(settings, [slot])
            release = functools.partial(self._policies.release, settings)
            return LoadedCheckpoint(
                loaded.handler, loaded.metadata, release, loaded.gate, loaded.turns
            )

        def make_slot(checkpoint: str) -> CheckpointSlot:
            endpoint = self.endpoints["action"]
            return CheckpointSlot(
                checkpoint,
                max_wait=endpoint.slot.max_wait,
                give_up_after=swap.settings.watchdog_s or None,
                links=endpoint.links,
                limits=self._config.limits.of_a_request,
            )

        if self._config.positronic.codec is not None:
            self._checkpoints = CheckpointSlots(
                self._config, served=served, load=load, make_slot=make_slot, watch=self._slot_watch
            )
            sessions = positronic_sessions(self._config, self._checkpoints)
            self.endpoints["action"].websocket.hold_sessions(sessions)

    @property
    def _slot_watch(self) -> SlotWatch:
        def begins(slot: CheckpointSlot) -> None:
            self.admin.watch(slot)
            self.watch.attach_checkpoint(slot.slot)

        def serves(slot: CheckpointSlot, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
            told = self.admin.serves(slot.name, metadata)
            self.watch.serves(slot.slot, told)
            return told

        return SlotWatch(begins, serves, self.admin.forget)

    def _allow_swaps(
        self, name: str, settings: S, load: Callable[[S, Hashable], LoadedSlot]
    ) -> ModelSwap[S]:
        """Lets the operator replace the model of a slot, and replaces one that hangs."""
        endpoint = self.endpoints[name]
        library = self._policies if name == "action" else self._planners

        def serves(settings: S, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
            self.admin.replaced(name, settings)
            return self._serves(name, metadata)

        def unless_closed(switch: Callable[[], None]) -> bool:
            with self._opening:
                if not self._closed:
                    switch()
                return not self._closed

        steps = SwapSteps(
            load=load, release=library.release, serves=serves, unless_closed=unless_closed
        )
        swap = ModelSwap(endpoint, settings, steps, self._swapping)
        endpoint.slot.subscribe(
            lambda event: swap.replace_hanging() if isinstance(event, GivenUp) else None
        )
        self.swaps[name] = swap
        return swap

    @property
    def is_loading(self) -> bool:
        """Whether a model is being loaded, beside those that serve or in place of one."""
        is_session_waiting = self._checkpoints is not None and self._checkpoints.is_loading
        return self._swapping.locked() or is_session_waiting

    def log_traffic(self) -> None:
        """Logs for each slot what happened to its requests since the last call, if there were any.

        Times are those of answered requests.
        """
        for endpoint in self.endpoints.values():
            endpoint.traffic.log_summary()
        if self._checkpoints is not None:
            self._checkpoints.log_traffic()
        self.watch.log_summary()

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
        finished = self._checkpoints is None or self._checkpoints.close(grace=grace)
        self.watch.close_shadow(grace)
        for endpoint in self.endpoints.values():
            endpoint.stop_accepting()
        # the action slot first: it may be waiting for the planner
        for name in ("action", "planner"):
            if name in self.endpoints:
                left = max(0.0, end - time.monotonic())
                finished &= self.endpoints[name].close(grace=left)
        self._policies.close()
        self.log_traffic()
        self.watch.close_recorder()
        # last, so that probes see the drain
        self.admin.close()
        return finished

"""What an operator gets of a service: metrics, sessions, live prompts, identity, and the port."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from openpi_flash_server.admin.administered import Administered, Swap, WatchedSlot
from openpi_flash_server.admin.app import make_app
from openpi_flash_server.admin.http_server import AdminPort
from openpi_flash_server.admin.metrics import Metrics
from openpi_flash_server.admin.session_board import SessionBoard
from openpi_flash_server.admin.spans import RequestSpans, Tracing, TracingError, open_tracing
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.listen_address import with_port
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.config.planner_settings import PlannerSettings
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.logs import log_output
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.recording.recorder import Recorder
from openpi_flash_server.serving.checkpoint_slot import CheckpointSlot
from openpi_flash_server.serving.endpoint import Endpoint, StartError
from openpi_flash_server.serving.identity import identity
from openpi_flash_server.shadow.shadow import Shadow
from openpi_flash_server.slot.voice import Listener
from openpi_flash_server.transports.client_events import ClientListener

log = EventLogger(__name__)


class Administration:
    """Watches the endpoints of a service. Its port is closed until `open`.

    Args:
        config: what is served.

    Attributes:
        prompts: in force for all slots.
        port: the operator's; None if there is none.

    Raises:
        StartError: spans are wanted and cannot be exported.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._identity = identity(config)
        # replaced as a whole: the operator's port reads it on threads of its own
        self._slots: Mapping[str, WatchedSlot] = {}
        self._metrics = Metrics(self._identity["versions"])
        self._board = SessionBoard(keeps_frames=config.admin.show_frames, clock=time.monotonic)
        self.prompts = LivePrompts(config.prompts)
        self.port: AdminPort | None = None
        self._tracing: Tracing | None = None
        if config.tracing:
            try:
                self._tracing = open_tracing(self._identity["versions"])
            except TracingError as error:
                raise StartError(f"tracing: {error}") from error

    def endpoint(self, name: str) -> Endpoint:
        """Opens the ports of a slot, and watches it if somebody can look.

        Raises:
            StartError: a port or the socket cannot be listened on.
        """
        client_listeners: list[ClientListener] = []
        if self._config.admin.enabled:
            client_listeners += [self._metrics.client_listener(name), self._board.client_event]
        endpoint = Endpoint(
            name,
            self._config,
            slot_listeners=self._slot_listeners(name),
            client_listeners=client_listeners,
        )
        self._add(name, endpoint)
        return endpoint

    def watch(self, slot: CheckpointSlot) -> None:
        """Watches a slot that came on demand."""
        for listener in self._slot_listeners(slot.name):
            slot.slot.subscribe(listener)
        self._add(slot.name, slot)

    def forget(self, slot: CheckpointSlot) -> None:
        """A slot that came on demand is gone."""
        self._slots = {name: one for name, one in self._slots.items() if one is not slot}
        self._metrics.forget_slot(slot.name)

    def _slot_listeners(self, name: str) -> list[Listener]:
        listeners: list[Listener] = []
        if self._config.admin.enabled:
            listeners += [self._metrics.slot_listener(name), self._board.slot_listener(name)]
        if self._tracing is not None:
            offset = time.time() - time.monotonic()
            listeners.append(RequestSpans(name, self._tracing.tracer, wall_offset=offset))
        return listeners

    def _add(self, name: str, slot: WatchedSlot) -> None:
        self._slots = {**self._slots, name: slot}
        self._metrics.watch_slot(name, slot)

    def open(
        self, swaps: Mapping[str, Swap], recorder: Recorder | None, shadow: Shadow | None
    ) -> None:
        """Opens the operator's port, if the configuration wants one.

        Args:
            swaps: replace the models, by the names of their slots.
            recorder: of all slots; None if nothing is recorded.
            shadow: of the action slot; None if there is none.

        Raises:
            StartError: it cannot be listened on, and was chosen.
        """
        settings = self._config.admin
        if not settings.enabled:
            return
        if recorder is not None:
            self._metrics.watch_recorder(lambda: recorder.state)
        if shadow is not None:
            self._metrics.watch_shadow("action", lambda: shadow.totals)
        administered = Administered(
            slots=lambda: self._slots,
            identity=lambda: self._identity,
            prompts=self.prompts,
            has_action=self._config.action is not None,
            has_planner=self._config.planner is not None,
            metrics=self._metrics,
            board=self._board,
            swaps=swaps,
            recorder=recorder,
            copies=None if shadow is None else lambda: shadow.totals,
            set_log_level=log_output.set_level,
            log_level=log_output.level,
            clock=time.monotonic,
        )
        app = make_app(administered, keys=settings.keys, host=settings.host)
        try:
            self.port = AdminPort(app, host=settings.host, port=settings.port)
        except OSError as error:
            self._refuse_or_warn(error)
            return
        log.info("admin page", url=f"http://{with_port(settings.host, self.port.port)}/")

    def serves(self, slot: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Notes what answers in a slot; returns what its clients are told."""
        self._metrics.describe_model(slot, metadata)
        return {**metadata, **{key: self._identity[key] for key in ("config_digest", "versions")}}

    def replaced(self, slot: str, settings: ActionSettings | PlannerSettings) -> None:
        """Notes that a slot serves with other settings from now on."""
        former = self._config.action
        self._config = self._config.model_copy(update={slot: settings})
        self._identity = identity(self._config)
        if not isinstance(settings, ActionSettings):
            return
        # an equal one says nothing against what the operator has set since
        is_new = former is None or settings.default_prompt != former.default_prompt
        if settings.default_prompt is not None and is_new:
            self.prompts.change(default_prompt=settings.default_prompt)

    def close(self) -> None:
        """Closes the port, and sends the last spans."""
        if self.port is not None:
            self.port.close()
        if self._tracing is not None:
            self._tracing.close()

    def _refuse_or_warn(self, error: OSError) -> None:
        settings = self._config.admin
        where = with_port(settings.host, settings.port)
        reason = (error.strerror or str(error)).lower()
        if not self._config.is_default("admin", "port"):
            raise StartError(f"admin.port: cannot listen on {where}: {reason}") from error
        # a page that nobody asked for must not keep robots waiting
        log.warning(
            "no admin port: another program listens there; set admin.port, or admin.enabled to "
            "false",
            address=where,
            reason=reason,
        )

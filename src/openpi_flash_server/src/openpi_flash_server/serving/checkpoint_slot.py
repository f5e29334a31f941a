"""A slot for a checkpoint that Positronic's sessions asked for, beside the action slot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openpi_flash_server.config.request_limits import RequestLimits
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.serving.traffic import Traffic
from openpi_flash_server.slot.event_log import EventLog
from openpi_flash_server.slot.gate import Gate
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.runner import Handler
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.websocket.positronic_protocol import SESSION_PATH

Links = Mapping[str, Mapping[str, float]]
"""What is known of each connection's link, by the client's name."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A policy in memory.

    Attributes:
        handler: warm.
        metadata: of the policy.
        unload: gives the memory back.
        gate: may hold requests back; None holds none.
        turns: of a device that another slot uses, too.
    """

    handler: Handler
    metadata: Mapping[str, Any]
    unload: Callable[[], None]
    gate: Gate | None = None
    turns: DeviceTurns | None = None


class CheckpointSlot:
    """One checkpoint's slot, from the begin of its loading. Its sessions are on the action port.

    Args:
        checkpoint: its name.
        max_wait: how long a request waits for others to share its batch, s.
        give_up_after: how long a batch may run before its requests fail, s; None for ever.
        links: of the action slot's port.
        limits: of each observation.
        clock: monotonic seconds.

    Attributes:
        name: `action-` and the checkpoint's name.
        slot: answers the sessions once it is open.
        traffic: counts its requests for the log.
        metadata: what answers; None until it is loaded.
    """

    loads_on_demand = True
    replicas = None

    def __init__(
        self,
        checkpoint: str,
        *,
        max_wait: float,
        give_up_after: float | None,
        links: Callable[[], Links],
        limits: RequestLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"action-{checkpoint}"
        self._path = f"{SESSION_PATH}/{checkpoint}"
        self._links = links
        self._loaded: LoadedCheckpoint | None = None
        self.metadata: Mapping[str, Any] | None = None
        self.slot = Slot(
            self.name,
            max_wait=max_wait,
            give_up_after=give_up_after,
            limits=limits or RequestLimits(),
            clock=clock,
        )
        self.traffic = Traffic(self.name, clock)
        self.slot.subscribe(EventLog(self.name))
        self.slot.subscribe(self.traffic.count)

    def open(self, loaded: LoadedCheckpoint, metadata: Mapping[str, Any]) -> None:
        """Takes requests from now on; `metadata` is what clients are told."""
        self._loaded, self.metadata = loaded, metadata
        runner = OwnThread(
            f"slot-{self.name}", loaded.handler, clock=self.slot.clock, turns=loaded.turns
        )
        self.slot.open(runner, loaded.gate)

    def close(self, *, grace: float) -> bool:
        """Runs accepted requests for at most `grace` s; returns whether that was enough."""
        return self.slot.close(grace=grace)

    def unload(self) -> None:
        """Gives the memory back, after `close`."""
        if self._loaded is not None:
            loaded, self._loaded = self._loaded, None
            loaded.unload()

    @property
    def stage(self) -> Stage:
        """Where the slot stands in its life."""
        return self.slot.stage

    @property
    def unhealthy_because(self) -> str | None:
        """Why it does not answer requests, or not as it should; None if it does."""
        return self.slot.unhealthy_because

    @property
    def trouble_because(self) -> str | None:
        """A problem that only a restart cures; None if there is none."""
        return self.slot.trouble_because

    @property
    def addresses(self) -> Mapping[str, str]:
        """The path of its sessions, on the action slot's WebSocket port."""
        return {"session": self._path}

    @property
    def max_wait_ms(self) -> float:
        """How long a request waits for others to share its call; may be set."""
        return self.slot.max_wait * 1000

    @max_wait_ms.setter
    def max_wait_ms(self, value: float) -> None:
        self.slot.max_wait = value / 1000

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """None of its own: the action slot's port counts."""
        return {}

    def links(self) -> Links:
        """What is known of each connection's link, by the client's name."""
        return self._links()

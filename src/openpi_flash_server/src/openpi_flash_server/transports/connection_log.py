"""Logs connections: clients that connect and disconnect, and refused API keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.logs.repeat_limit import RepeatLimit
from openpi_flash_server.transports.client_events import (
    ClientConnected,
    ClientEvent,
    ClientLeft,
    ClientRefused,
    address_of,
)

log = EventLogger(__name__)

LINES_OF_AN_ADDRESS = 20
"""Lines a minute about an address's new connections, and as many about ended ones."""


class ConnectionLog:
    """A listener that writes the lines of one port or socket. May be called from any thread.

    Args:
        slot: `action` or `planner`.
        clock: monotonic seconds.
    """

    def __init__(self, slot: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._slot = slot
        self._clock = clock
        self._connections = RepeatLimit(at_once=LINES_OF_AN_ADDRESS)
        self._refusals = RepeatLimit()
        self._changed = threading.Lock()

    def __call__(self, event: ClientEvent) -> None:
        """Writes the event, unless it is of no interest or was written already."""
        match event:
            case ClientConnected(session=session, software=software):
                given = {"session": session, "software": software}
                self._say("client connected", event, given)
            case ClientLeft(reason=reason):
                self._say("client disconnected", event, {"reason": reason})
            case ClientRefused():
                self._refused(event)

    def _refused(self, event: ClientRefused) -> None:
        address = address_of(event.client)
        with self._changed:
            times = self._refusals.occurred(address, self._clock(), times=event.times)
        if times:
            log.warning(
                "client refused",
                slot=self._slot,
                link=event.link,
                address=shown(address),
                reason=shown(event.reason),
                times=times,
            )

    def _say(self, text: str, event: ClientConnected | ClientLeft, given: dict[str, str]) -> None:
        with self._changed:
            key = (text, address_of(event.client))
            times = self._connections.occurred(key, self._clock())
        if times:
            more: dict[str, object] = {name: shown(value) for name, value in given.items() if value}
            if times > 1:
                more["times"] = times
            log.info(text, slot=self._slot, link=event.link, peer=shown(event.client), **more)

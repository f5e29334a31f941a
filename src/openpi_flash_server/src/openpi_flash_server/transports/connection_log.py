"""Logs connections: clients that connect and disconnect, and refused API keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.logs.repeat_limit import RepeatLimit

log = EventLogger(__name__)

LINES_OF_AN_ADDRESS = 20
"""Lines a minute about an address's new connections, and as many about ended ones."""


class ConnectionLog:
    """Writes the lines of one port or socket. May be called from any thread.

    Args:
        slot: `action` or `planner`.
        link: `WebSocket`, `QUIC` or `unix socket`.
        clock: monotonic seconds.
    """

    def __init__(
        self, slot: str, link: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fields = {"slot": slot, "link": link}
        self._clock = clock
        self._connections = RepeatLimit(at_once=LINES_OF_AN_ADDRESS)
        self._refusals = RepeatLimit()
        self._changed = threading.Lock()

    def connected(self, peer: str, *, session: str = "") -> None:
        """A client connected.

        Args:
            peer: `ip:port#connection`, or `pid=…,uid=…#connection`.
            session: the name that it gave, if any.
        """
        self._say("client connected", peer, {"session": shown(session)} if session else {})

    def disconnected(self, peer: str, *, reason: str = "") -> None:
        """A connected client left, or was lost."""
        self._say("client disconnected", peer, {"reason": shown(reason)} if reason else {})

    def refused(self, peer: str, reason: str, *, times: int = 1) -> None:
        """A client was refused, usually for its API key; one line a minute and address.

        Args:
            peer: as above, or an address alone.
            reason: why; holds no key.
            times: how often it happened.
        """
        address = address_of(peer)
        with self._changed:
            times = self._refusals.occurred(address, self._clock(), times=times)
        if times:
            log.warning(
                "client refused",
                **self._fields,
                address=shown(address),
                reason=shown(reason),
                times=times,
            )

    def _say(self, event: str, peer: str, more: dict[str, str]) -> None:
        with self._changed:
            times = self._connections.occurred((event, address_of(peer)), self._clock())
        if times:
            counted = {"times": times} if times > 1 else {}
            log.info(event, **self._fields, peer=shown(peer), **more, **counted)


def address_of(peer: str) -> str:
    """The address in a peer's name: without its port and the number of its connection."""
    place = peer.partition("#")[0]
    host, _, port = place.rpartition(":")
    if host and port.isdecimal():
        return host
    # a unix socket: `pid=…,uid=…`
    return place.rpartition(",")[2]

"""What happens to the clients of a port or socket, as data, for whoever subscribes.

A listener runs on the thread on which the event occurred: it must return at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openpi_flash_server.logs.events import EventLogger

log = EventLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClientConnected:
    """A client was let in.

    Attributes:
        link: `QUIC`, `WebSocket` or `unix socket`.
        client: `ip:port#connection`, or `pid=…,uid=…#connection`.
        session: the name that it gave; empty if none.
        software: name and version of its program, as it gave them; empty if it gave none.
    """

    link: str
    client: str
    session: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """A client that was let in left, or was lost.

    Attributes:
        link: as above.
        client: as above.
        reason: empty if there is none.
    """

    link: str
    client: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClientRefused:
    """A client was not let in, usually for its API key.

    Attributes:
        link: as above.
        client: as above, or an address alone.
        reason: why; holds no key.
        times: how often it happened.
    """

    link: str
    client: str
    reason: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A request came.

    Attributes:
        link: as above.
        size: its bytes.
    """

    link: str
    size: int


@dataclass(frozen=True, slots=True)
class AnswerSent:
    """A reply went to its client.

    Attributes:
        link: as above.
        size: its bytes.
        send_ms: packing it, and handing it to the network.
    """

    link: str
    size: int
    send_ms: float


ClientEvent = ClientConnected | ClientLeft | ClientRefused | MessageReceived | AnswerSent
ClientListener = Callable[[ClientEvent], None]


class ClientNews:
    """Tells the listeners of one port or socket. May be called from any thread.

    Args:
        listeners: get every event, in order.
    """

    def __init__(self, listeners: Sequence[ClientListener]) -> None:
        self._listeners = tuple(listeners)

    def tell(self, event: ClientEvent) -> None:
        """Tells `event`; an error of a listener is logged and ends there."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:
                log.error("listener failed", exception=error)


def address_of(client: str) -> str:
    """The address in a client's name: without its port and the number of its connection."""
    place = client.partition("#")[0]
    host, _, port = place.rpartition(":")
    if host and port.isdecimal():
        return host
    # a unix socket: `pid=…,uid=…`
    return place.rpartition(",")[2]

"""The common part of the transports: a server of `flash_transport` and its slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.vital_thread import vital_thread
from openpi_flash_server.transports.client_events import (
    ClientConnected,
    ClientLeft,
    ClientListener,
    ClientNews,
    ClientRefused,
    address_of,
)
from openpi_flash_server.transports.connection_log import ConnectionLog
from openpi_flash_server.transports.request_pump import RequestPump, RequestSource

log = EventLogger(__name__)

NativeEvent = tuple[Literal["connected", "disconnected", "refused", "relay", "lost"], str, str, int]
"""Kind, client or relay, session or what is said, and how often: see
`TransportServer.next_client_events`."""


class NativeServer(RequestSource, Protocol):
    """A server of `flash_transport`: `QuicServer`, `LocalServer` or `WebsocketServer`."""

    @property
    def counters(self) -> dict[str, int]:
        """Counts since the start."""

    def clients(self) -> list[tuple[str, str, str]]:
        """Name, session and software of each connected client."""

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Lets clients in."""

    def next_client_events(self, timeout: float | None = None) -> list[NativeEvent] | None:
        """Clients that connected, left or were refused; None when the server is closed."""

    def share_refusals(self, other: Any) -> None:
        """Counts wrong API keys together with another server."""

    def stop_accepting(self) -> None:
        """Refuses new requests."""

    def drain(self, timeout: float | None) -> bool:
        """Closes when every request is answered; returns whether it was."""


class NativeTransport:
    """A server of `flash_transport` in front of a slot.

    It listens from the constructor on. Until `publish` it answers clients that it is not ready, and
    they wait: the answer to a hello carries the metadata, which needs the loaded model.

    Args:
        slot: answers the requests.
        server: listens already.
        link: its name in the log.
        listeners: are told of its clients, besides the log.
        sends_first_actions: whether the link carries them ahead of an answer.
    """

    def __init__(
        self,
        slot: Slot,
        server: NativeServer,
        *,
        link: str,
        listeners: Sequence[ClientListener] = (),
        sends_first_actions: bool = True,
    ) -> None:
        self._slot = slot
        self._native = server
        self._link = link
        self._news = ClientNews([ConnectionLog(slot.name), *listeners])
        self._pump = RequestPump(
            slot, server, link=link, news=self._news, sends_first_actions=sends_first_actions
        )
        self._log_thread = vital_thread(
            f"{link.lower()}-clients-{slot.name}",
            self._log_clients,
            slot.has_trouble,
        )
        self._log_thread.start()

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Lets clients in: the slot is open."""
        self._native.set_metadata(dict(metadata))

    def share_refusals(self, other: NativeTransport) -> None:
        """Counts wrong API keys together with `other`: two ports are tried as slowly as one."""
        self._native.share_refusals(other._native)

    @property
    def counters(self) -> dict[str, int]:
        """Counts since the start; docs/server.md explains each counter."""
        return self._native.counters

    def stop_accepting(self) -> None:
        """Answers new requests that the server shuts down; accepted ones go on."""
        self._native.stop_accepting()

    def close(self, *, grace: float) -> bool:
        """Closes every connection once its answers have arrived, or after `grace` s.

        Returns:
            Whether every accepted request is answered and the answers have arrived.
        """
        finished = self._native.drain(grace)
        self._pump.join()
        self._log_thread.join()
        log.info(f"{self._link} closed", slot=self._slot.name, **self.counters)
        return finished

    def _log_clients(self) -> None:
        while (events := self._native.next_client_events()) is not None:
            software = {name: given for name, _, given in self._native.clients()}
            for kind, client, detail, times in events:
                if kind == "connected":
                    given = software.get(client, "")
                    self._news.tell(ClientConnected(self._link, client, detail, given))
                elif kind == "disconnected":
                    self._news.tell(ClientLeft(self._link, client))
                    self._slot.client_left(Client(client, address_of(client)))
                elif kind == "refused":
                    self._news.tell(ClientRefused(self._link, client, detail, times))
                elif kind == "relay":
                    log.info("relay", slot=self._slot.name, relay=shown(client), says=shown(detail))
                else:
                    log.warning("events of clients were lost", slot=self._slot.name, events=times)

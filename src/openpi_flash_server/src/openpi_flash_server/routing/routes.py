"""Which server a packet goes to. Pure: sockets and clocks are elsewhere.

A server writes its id into its connection ids (`action_transport.quic_server_id`), so whatever
belongs to a connection says where it goes, also after its client's address has changed or the
router was restarted. Only the first packets of a connection, whose id the client chose, are a
choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Address = tuple[str, int]
"""A client's host and port."""

ROUTABLE_LENGTH = 17
"""Bytes of a connection id that has a server id, as QUIC-LB lays them out."""
FIRST_OCTET = ROUTABLE_LENGTH - 1
SERVER_ID = slice(1, 9)

LIVE_FOR = 3.0
"""s since its last packet that a client counts as a load; ours say something every 2 s."""
FIRST_FLIGHT_FOR = 30.0
"""s that the choice for a connection's first packets is kept; a handshake is over before."""
MOST_FIRST_FLIGHTS = 4096
"""Choices that are kept at a time: whoever invents connections gets no more memory."""
MOST_CLIENTS = 4096
"""Clients that are counted at a time: whoever invents addresses gets no more memory."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """What was last heard of a server.

    Attributes:
        ready: it takes new clients.
        waiting: requests that wait their turn there; 0 if that is not known.
        gone: its port refuses connections, so that no connection to it is left.
    """

    ready: bool = False
    waiting: int = 0
    gone: bool = False


@dataclass(slots=True)
class _Client:
    server: int
    last: float


def parse_server_id(text: str) -> bytes:
    """The eight bytes of `0x` and 16 hexadecimal digits.

    Raises:
        ValueError: it is not that.
    """
    digits = text.removeprefix("0x")
    if text == digits or len(digits) != 16 or digits != digits.lower():
        raise ValueError(f"{text!r} is not 0x and 16 lowercase hexadecimal digits")
    return bytes.fromhex(digits)


class Routes:
    """The routes of all clients.

    Args:
        server_ids: of the servers, 8 bytes each, all different. Servers are known by their place.

    Attributes:
        states: of the servers; nobody is ready before that was heard.
    """

    def __init__(self, server_ids: Sequence[bytes]) -> None:
        self._ids: Mapping[bytes, int] = {one: at for at, one in enumerate(server_ids)}
        self.states = [ServerState() for _ in server_ids]
        self._clients: dict[Address, _Client] = {}
        self._first_flights: dict[tuple[Address, bytes], _Client] = {}
        self._former: dict[str, int] = {}

    def packet(self, packet: bytes, client: Address, now: float) -> int | None:
        """The server of a client's packet; None if nobody can have it.

        Args:
            packet: one UDP datagram.
            client: where it came from.
            now: s.
        """
        if len(packet) < 1 + ROUTABLE_LENGTH:
            return None
        if packet[0] & 0x80:
            length = packet[5]
            connection_id = packet[6 : 6 + length]
            if len(connection_id) != length:
                return None
        else:
            connection_id = packet[1 : 1 + ROUTABLE_LENGTH]
        server = None
        if len(connection_id) == ROUTABLE_LENGTH and connection_id[0] == FIRST_OCTET:
            server = self._ids.get(connection_id[SERVER_ID])
        if server is not None and self.states[server].gone:
            # another one with the same certificate resets the connection, so that the client
            # connects again at once in place of waiting for a silent server
            other = self._choose(client[0], now)
            return server if other is None else other
        if server is None and packet[0] & 0x80:
            server = self._first_flight(client, connection_id, now)
        if server is not None:
            self._note(client, server, now)
        return server

    def connection(self, client: Address, now: float) -> int | None:
        """The server of a new TCP connection; None if none is ready."""
        server = self._choose(client[0], now)
        if server is not None:
            self._note(client, server, now)
        return server

    def forget(self, now: float, quiet_for: float) -> None:
        """Drops what has been quiet for so many s."""
        self._clients = {k: v for k, v in self._clients.items() if now - v.last < quiet_for}
        self._first_flights = {
            k: v for k, v in self._first_flights.items() if now - v.last < FIRST_FLIGHT_FOR
        }
        hosts = {host for host, _ in self._clients}
        self._former = {host: at for host, at in self._former.items() if host in hosts}

    def _first_flight(self, client: Address, connection_id: bytes, now: float) -> int | None:
        key = (client, connection_id)
        begun = self._first_flights.get(key)
        if begun is not None and self.states[begun.server].ready:
            return begun.server
        if begun is None and len(self._first_flights) >= MOST_FIRST_FLIGHTS:
            return None
        # a server that has gone leaves the handshake unanswered: what is sent again begins it anew
        server = self._choose(client[0], now)
        if server is not None:
            self._first_flights[key] = _Client(server, now)
        return begun.server if server is None and begun is not None else server

    def _choose(self, host: str, now: float) -> int | None:
        loads = [state.waiting for state in self.states]
        for client in self._clients.values():
            if now - client.last < LIVE_FOR:
                loads[client.server] += 1
        former = self._former.get(host)
        ready = [at for at, state in enumerate(self.states) if state.ready]
        return min(ready, key=lambda at: (loads[at], at != former, at), default=None)

    def _note(self, client: Address, server: int, now: float) -> None:
        known = self._clients.get(client)
        if known is not None:
            known.server, known.last = server, now
        elif len(self._clients) < MOST_CLIENTS:
            self._clients[client] = _Client(server, now)
        else:
            return
        self._former[client[0]] = server

"""The WebSocket port of a slot: its event loop, and the way of a connection through it.

A connection asks for its path. The health page answers at once; everything else needs a key, and
goes on in the protocol of the port with the slot that the router names.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import ipaddress
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

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
    address_of,
)
from openpi_flash_server.transports.connection_log import ConnectionLog
from openpi_flash_server.transports.router import Router
from openpi_flash_server.transports.websocket.api_key_gate import ApiKeyGate
from openpi_flash_server.transports.websocket.health import HEALTH_PATH, health_page
from openpi_flash_server.transports.websocket.openpi_protocol import LINK, OpenpiProtocol
from openpi_flash_server.transports.websocket.positronic_protocol import (
    PREFIX,
    PositronicProtocol,
    PositronicSessions,
)
from openpi_flash_server.transports.websocket.slot_call import visiting
from openpi_flash_server.transports.websocket.tls import EitherConnection, TlsOffer

log = EventLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""As on QUIC; three raw 1080p cameras are 19 MB. A larger one closes its connection with 1009."""

PING_INTERVAL = 20.0
"""s, as websockets': less than what routers forget a quiet connection after."""

LONGEST_SILENCE = 900.0
"""s. A client in Python answers no ping while a simulator holds its interpreter: a reset may take
minutes. A robot that is gone costs a session's memory until then."""


class WebsocketTransport:
    """The WebSocket end of a slot; its event loop has a thread of its own.

    Args:
        slot: answers the requests.
        host: the address to listen on.
        port: 0 lets the system choose.
        api_keys: keys of the clients; empty lets everybody in.
        expose_tracebacks: whether openpi's clients get the server's traceback.
        listeners: are told of its clients, besides the log.
        ping_interval: s between two pings, which keep a quiet connection open.
        longest_silence: s that a client may leave a ping without an answer.
        pause: waits for a number of s, before a key of an address that sent wrong ones is checked.

    Attributes:
        port: where it listens.
        router: which slot answers which path.
        openpi: the protocol of every path but those of `positronic`.
        positronic: the protocol of the paths below `/api/v1/`.
        tls: the certificate for clients that begin with TLS.

    Raises:
        OSError: the port cannot be listened on.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        host: str,
        port: int,
        api_keys: Sequence[str] = (),
        expose_tracebacks: bool = True,
        listeners: Sequence[ClientListener] = (),
        ping_interval: float = PING_INTERVAL,
        longest_silence: float = LONGEST_SILENCE,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ping_interval = ping_interval
        self._longest_silence = longest_silence
        self._slot = slot
        self.router = Router(slot)
        self.tls = TlsOffer()
        self._news = ClientNews([ConnectionLog(slot.name), *listeners])
        self.openpi = OpenpiProtocol(expose_tracebacks=expose_tracebacks, news=self._news)
        self.positronic = PositronicProtocol(news=self._news)
        self._gate = ApiKeyGate(api_keys, news=self._news, link=LINK, clock=slot.clock, pause=pause)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Future[float]
        self._all_sent = True
        self._connection_numbers = itertools.count(1)
        self._open: dict[str, ServerConnection] = {}
        listening: concurrent.futures.Future[int] = concurrent.futures.Future()

        def died(reason: str) -> None:
            slot.has_trouble(reason)
            if not listening.done():
                listening.set_exception(OSError(reason))

        self._thread = vital_thread(
            f"websocket-{slot.name}",
            lambda: asyncio.run(self._serve(host, port, listening)),
            died,
        )
        self._thread.start()
        self.port = listening.result()
        self.positronic.port = self.port

    @property
    def links(self) -> dict[str, dict[str, float]]:
        """Round trip of each connection by the client's name, from its last ping, if it had one."""
        # a copy in one step: the loop's thread changes the dictionary
        connections = list(self._open.items())
        return {name: {"rtt_ms": one.latency * 1000} for name, one in connections if one.latency}

    def hold_sessions(self, sessions: PositronicSessions) -> None:
        """Answers Positronic's clients, too; without it they are refused."""
        self.positronic.sessions = sessions

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Lets clients in: the slot is open."""
        self.openpi.publish(metadata)
        self.positronic.publish()

    def stop_accepting(self) -> None:
        """Does nothing: the slot refuses new requests, and `/healthz` says so until `close`."""

    def close(self, *, grace: float) -> bool:
        """Sends pending answers, for at most `grace` s, then closes every connection.

        Returns:
            Whether all were sent.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_with, grace)
            self._thread.join()
        return self._all_sent

    def _stop_with(self, grace: float) -> None:
        if not self._stop.done():
            self._stop.set_result(grace)

    async def _serve(self, host: str, port: int, listening: concurrent.futures.Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = self._loop.create_future()
        self.openpi.listening(self._loop)
        self.positronic.listening(self._loop)
        try:
            server = await serve(
                self._talk_and_log,
                **_listening(host, port),
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                ping_interval=self._ping_interval,
                ping_timeout=self._longest_silence,
                # a client waits for its answer before it sends again
                max_queue=2,
                # called as the class would be
                create_connection=cast(
                    "type[ServerConnection]", functools.partial(EitherConnection, self.tls)
                ),
                process_request=self._answer_http,
                select_subprotocol=self.openpi.choose_subprotocol,
                logger=_silent_logger(),
            )
        except OSError as error:
            listening.set_exception(error)
            return
        listening.set_result(server.sockets[0].getsockname()[1])
        grace = await self._stop
        sent = await asyncio.gather(
            self.openpi.answers_sent(grace), self.positronic.answers_sent(grace)
        )
        self._all_sent = all(sent)
        server.close()
        # a handler that waits for a missing answer is cancelled with the loop
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), _FAREWELL)
        # the library would wait 10 s for a client that reads nothing
        for connection in self._open.values():
            connection.transport.abort()

    async def _answer_http(
        self, connection: ServerConnection, request: HttpRequest
    ) -> HttpResponse | None:
        """Answers plain HTTP: health and refusals. None continues the WebSocket handshake."""
        path = _path_of(request)
        if path == HEALTH_PATH:
            trouble = self._slot.unhealthy_because or self.openpi.unpublished_because
            return health_page(connection, trouble)
        refusal = await self._gate.refusal(connection, request)
        if refusal is not None:
            return refusal
        if path.startswith(PREFIX):
            return await self.positronic.page(connection, request)
        return self.openpi.refusal(connection, request, self.router.slot(path))

    async def _talk_and_log(self, connection: ServerConnection) -> None:
        peer = _name_of(connection, next(self._connection_numbers))
        assert connection.request is not None
        client = Client(peer, address_of(peer), self._gate.place(connection.request) or 0)
        path = _path_of(connection.request)
        slot = self.router.slot(path)
        # some control characters are allowed in a header
        software = shown(connection.request.headers.get("User-Agent", ""))
        self._news.tell(ClientConnected(LINK, peer, software=software))
        self._open[peer] = connection
        reason = ""
        try:
            if path.startswith(PREFIX):
                await self.positronic.talk(connection, client)
            else:
                with visiting(slot, client, connection):
                    await self.openpi.talk(connection, client, slot)
        except ConnectionClosed as error:
            reason = str(error)
        except Exception as error:
            log.error("connection failed", exception=error, slot=slot.name, peer=peer)
            raise
        finally:
            del self._open[peer]
            self._news.tell(ClientLeft(LINK, peer, reason))


def _path_of(request: HttpRequest) -> str:
    return request.path.partition("?")[0]


def _listening(host: str, port: int) -> dict[str, Any]:
    """Arguments of asyncio for listening; `::` takes IPv4 too, as on QUIC."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.version == 6 and address.is_unspecified and socket.has_dualstack_ipv6():
            both = socket.create_server(
                (host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
            return {"sock": both}
    return {"host": host, "port": port}


def _name_of(connection: ServerConnection, number: int) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}#{number}" if address else f"#{number}"


def _silent_logger() -> logging.Logger:
    """Drops the library's own lines: a port scanner must not fill the log with tracebacks."""
    logger = logging.getLogger("openpi_flash_server.websockets_library")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


_BACKLOG = 100
"""As asyncio's."""
_FAREWELL = 1.0
"""s for the clients' closing handshake when the server stops."""

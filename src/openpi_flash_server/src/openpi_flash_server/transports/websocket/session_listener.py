"""Answers the session API behind the WebSocket port: an event loop on a private unix socket.

`flash_transport` passes connections on when it has checked their keys, and says whose they are in
two headers of its own. Only this process's user can reach the socket.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from websockets.asyncio.server import ServerConnection, unix_serve
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
from openpi_flash_server.transports.websocket.positronic_protocol import LINK, PositronicProtocol

log = EventLogger(__name__)

CLIENT_HEADER = "X-OpenPI-Flash-Client"
KEY_HEADER = "X-OpenPI-Flash-Key"


class SessionListener:
    """The session API of one WebSocket port; its event loop has a thread of its own.

    Args:
        slot: is told of trouble.
        listeners: are told of its clients, besides the log.
        max_message_bytes: a larger message closes its connection with 1009.
        ping_interval: s between two pings.
        longest_silence: s that a client may leave a ping without an answer.

    Attributes:
        path: of the unix socket.
        protocol: what its clients speak.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        listeners: Sequence[ClientListener] = (),
        max_message_bytes: int,
        ping_interval: float,
        longest_silence: float,
    ) -> None:
        self._slot = slot
        self._news = ClientNews([ConnectionLog(slot.name), *listeners])
        self.protocol = PositronicProtocol(news=self._news)
        self._max_message_bytes = max_message_bytes
        self._ping_interval = ping_interval
        self._longest_silence = longest_silence
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Future[float]
        self._all_sent = True
        self.open: dict[str, ServerConnection] = {}
        # a folder of this user alone
        self._directory = tempfile.TemporaryDirectory(prefix="openpi-flash-")
        self.path = Path(self._directory.name) / "sessions.sock"
        listening: concurrent.futures.Future[None] = concurrent.futures.Future()

        def died(reason: str) -> None:
            slot.has_trouble(reason)
            if not listening.done():
                listening.set_exception(OSError(reason))

        self._thread = vital_thread(
            f"sessions-{slot.name}", lambda: asyncio.run(self._serve(listening)), died
        )
        self._thread.start()
        listening.result()

    @property
    def links(self) -> dict[str, dict[str, float]]:
        """Round trip of each connection by the client's name, from its last ping, if it had one."""
        # a copy in one step: the loop's thread changes the dictionary
        connections = list(self.open.items())
        return {name: {"rtt_ms": one.latency * 1000} for name, one in connections if one.latency}

    def close(self, *, grace: float) -> bool:
        """Sends pending answers, for at most `grace` s, then closes every connection.

        Returns:
            Whether all were sent.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_with, grace)
            self._thread.join()
        self._directory.cleanup()
        return self._all_sent

    def _stop_with(self, grace: float) -> None:
        if not self._stop.done():
            self._stop.set_result(grace)

    async def _serve(self, listening: concurrent.futures.Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = self._loop.create_future()
        self.protocol.listening(self._loop)
        server = await unix_serve(
            self._talk_and_log,
            str(self.path),
            compression=None,
            max_size=self._max_message_bytes,
            ping_interval=self._ping_interval,
            ping_timeout=self._longest_silence,
            # a client waits for its answer before it sends again
            max_queue=2,
            process_request=self._answer_http,
            logger=_silent_logger(),
        )
        listening.set_result(None)
        grace = await self._stop
        self._all_sent = await self.protocol.answers_sent(grace)
        server.close()
        # a handler that waits for a missing answer is cancelled with the loop
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), _FAREWELL)
        # the library would wait 10 s for a client that reads nothing
        for connection in self.open.values():
            connection.transport.abort()

    async def _answer_http(
        self, connection: ServerConnection, request: HttpRequest
    ) -> HttpResponse | None:
        """Answers plain HTTP. None continues the WebSocket handshake."""
        if CLIENT_HEADER not in request.headers:
            return connection.respond(http.HTTPStatus.FORBIDDEN, "use the WebSocket port\n")
        return await self.protocol.page(connection, request)

    async def _talk_and_log(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        headers = connection.request.headers
        peer = headers[CLIENT_HEADER]
        client = Client(peer, address_of(peer), int(headers[KEY_HEADER]))
        # some control characters are allowed in a header
        software = shown(headers.get("User-Agent", ""))
        self._news.tell(ClientConnected(LINK, peer, software=software))
        self.open[peer] = connection
        reason = ""
        try:
            await self.protocol.talk(connection, client)
        except ConnectionClosed as error:
            reason = str(error)
        except Exception as error:
            log.error("connection failed", exception=error, slot=self._slot.name, peer=peer)
            raise
        finally:
            del self.open[peer]
            self._news.tell(ClientLeft(LINK, peer, reason))


def _silent_logger() -> logging.Logger:
    """Drops the library's own lines: a port scanner must not fill the log with tracebacks."""
    logger = logging.getLogger("openpi_flash_server.websockets_library")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


_FAREWELL = 1.0
"""s for the clients' closing handshake when the server stops."""

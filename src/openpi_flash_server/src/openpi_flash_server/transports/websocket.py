"""openpi's WebSocket protocol, bit for bit, in front of a slot.

The server sends first: one binary frame with its metadata. Then it answers each binary frame with
an observation by one binary frame. An error is a text frame with the traceback, and the connection
closes with 1011, as openpi's own client expects. A client that offers the subprotocol
`openpi-flash.1` is ours: its errors are binary frames {error: {code, message}}, and it keeps its
connection. Source: `openpi/serving/websocket_policy_server.py`.

A client of openpi that connects before the model is warm waits for the metadata, as it would wait
for the port of openpi's server; our client gets 503 and the reason.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hmac
import http
import ipaddress
import itertools
import logging
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse
from websockets.protocol import State
from websockets.typing import Subprotocol

from flash_transport import CodecError, packb, unpackb
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure, Reply
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.connection_log import ConnectionLog, address_of
from openpi_flash_server.transports.key_refusals import KeyRefusals

log = EventLogger(__name__)

SUBPROTOCOL = Subprotocol("openpi-flash.1")
HEALTH_PATH = "/healthz"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""As on QUIC; three raw 1080p cameras are 19 MB. A larger one closes its connection with 1009."""


class WebsocketTransport:
    """The WebSocket end of a slot; its event loop has a thread of its own.

    Args:
        slot: answers the requests.
        host: the address to listen on.
        port: 0 lets the system choose.
        api_keys: keys of the clients; empty lets everybody in.
        expose_tracebacks: whether openpi's clients get the server's traceback.
        pause: waits for a number of s, before a key of an address that sent wrong ones is checked.

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
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._slot = slot
        self._connections = ConnectionLog(slot.name, "WebSocket")
        self._refusals = KeyRefusals()
        self._pause = pause
        self._pausing: Counter[str] = Counter()
        self._secret = secrets.token_bytes(32)
        self._api_keys = [self._tag(key.encode()) for key in api_keys]
        self._expose_tracebacks = expose_tracebacks
        self._metadata: bytes | None = None
        self._loop: asyncio.AbstractEventLoop
        self._published: asyncio.Event
        self._stop: asyncio.Future[float]
        self._answering: set[asyncio.Future[None]] = set()
        self._waiting: set[ServerConnection] = set()
        self._connection_numbers = itertools.count(1)
        listening: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(host, port, listening)),
            name=f"websocket-{slot.name}",
            daemon=True,
        )
        self._thread.start()
        self.port = listening.result()

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Lets clients in: the slot is open."""
        self._metadata = packb(dict(metadata))
        self._loop.call_soon_threadsafe(self._published.set)

    def close(self, *, grace: float) -> None:
        """Sends pending answers, for at most `grace` s, then closes every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_with, grace)
            self._thread.join()

    def _stop_with(self, grace: float) -> None:
        if not self._stop.done():
            self._stop.set_result(grace)

    async def _serve(self, host: str, port: int, listening: concurrent.futures.Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._published = asyncio.Event()
        self._stop = self._loop.create_future()
        try:
            server = await serve(
                self._talk_and_log,
                **_listening(host, port),
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                # a client waits for its answer before it sends again
                max_queue=2,
                process_request=self._answer_http,
                select_subprotocol=_choose_subprotocol,
                logger=_silent_logger(),
            )
        except OSError as error:
            listening.set_exception(error)
            return
        listening.set_result(server.sockets[0].getsockname()[1])
        grace = await self._stop
        if self._answering:
            await asyncio.wait(self._answering, timeout=grace)
        server.close()
        # a handler that waits for a missing answer is cancelled with the loop
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), _FAREWELL)

    async def _answer_http(
        self, connection: ServerConnection, request: HttpRequest
    ) -> HttpResponse | None:
        """Answers plain HTTP: health and refusals. None continues the WebSocket handshake."""
        if request.path.partition("?")[0] == HEALTH_PATH:
            trouble = self._slot.unhealthy_because or self._unpublished()
            if trouble is None:
                return connection.respond(http.HTTPStatus.OK, "OK\n")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{trouble}\n")
        refusal = await self._refusal_of_key(connection, request)
        if refusal is not None:
            return refusal
        reason = self._slot.not_ready_because or self._unpublished()
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
        if reason is not None and SUBPROTOCOL in offered.replace(" ", "").split(","):
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE, f"{ErrorCode.NOT_READY}: {reason}\n"
            )
        return None

    async def _refusal_of_key(
        self, connection: ServerConnection, request: HttpRequest
    ) -> HttpResponse | None:
        """The answer to a client without a valid key; None lets it in."""
        if not self._api_keys:
            return None
        address = str(connection.remote_address[0]) if connection.remote_address else "unknown"
        delay = self._refusals.delay(address, self._slot.clock())
        if delay:
            if self._pausing[address] >= _PAUSING_OF_AN_ADDRESS:
                self._connections.refused(address, "too many attempts at once")
                return connection.respond(
                    http.HTTPStatus.TOO_MANY_REQUESTS,
                    "this address gave wrong keys, its next attempts are taken one by one\n",
                )
            self._pausing[address] += 1
            try:
                await self._pause(delay)
            finally:
                self._pausing[address] -= 1
                self._pausing += Counter()
        if self._is_let_in(request):
            return None
        self._refusals.refused(address, self._slot.clock())
        sent = "Authorization" in request.headers
        self._connections.refused(address, "wrong API key" if sent else "no API key")
        message = "send the header Authorization: Api-Key <key> with a key of this server\n"
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, message)

    def _unpublished(self) -> str | None:
        return "starting" if self._metadata is None else None

    def _is_let_in(self, request: HttpRequest) -> bool:
        scheme, _, key = ",".join(request.headers.get_all("Authorization")).partition(" ")
        # every key is compared, so that the time tells nothing about the keys
        given = self._tag(key.strip().encode("utf-8", "surrogateescape"))
        matches = [hmac.compare_digest(given, known) for known in self._api_keys]
        return scheme.lower() == "api-key" and any(matches)

    def _tag(self, key: bytes) -> bytes:
        """A digest to compare instead of the key: of fixed length, and useless to an attacker."""
        return hmac.digest(self._secret, key, "sha256")

    async def _talk_and_log(self, connection: ServerConnection) -> None:
        peer = _name_of(connection, next(self._connection_numbers))
        self._connections.connected(peer)
        reason = ""
        try:
            await self._talk(connection, peer)
        except ConnectionClosed as error:
            reason = str(error)
        except Exception as error:
            log.error("connection failed", exception=error, slot=self._slot.name, peer=peer)
            raise
        finally:
            self._connections.disconnected(peer, reason=reason)
            self._slot.client_left(Client(peer, address_of(peer)))

    async def _talk(self, connection: ServerConnection, peer: str) -> None:
        if self._metadata is None:
            log.info("client waits for the start", slot=self._slot.name, peer=peer)
            await self._wait_until_published(connection)
        if self._metadata is None:
            return
        client = Client(peer, address_of(peer))
        await connection.send(self._metadata)
        prev_total_ms: float | None = None
        while True:
            data = await connection.recv()
            received_at = self._slot.clock()
            sent = self._loop.create_future()
            self._answering.add(sent)
            try:
                answer = await self._ask(connection, data, client)
                if not await self._send(connection, answer, prev_total_ms):
                    return
                prev_total_ms = (self._slot.clock() - received_at) * 1000
            finally:
                self._answering.discard(sent)
                sent.set_result(None)

    async def _wait_until_published(self, connection: ServerConnection) -> None:
        published = asyncio.ensure_future(self._published.wait())
        left = asyncio.ensure_future(connection.wait_closed())
        self._waiting.add(connection)
        await asyncio.wait({published, left}, return_when=asyncio.FIRST_COMPLETED)
        self._waiting.discard(connection)
        for task in (published, left):
            task.cancel()

    async def _ask(self, connection: ServerConnection, data: str | bytes, client: Client) -> Answer:
        answered: asyncio.Future[Answer] = self._loop.create_future()
        self._slot.receive(
            lambda: _decode(data),
            client=client,
            session=client.name,
            respond=lambda answer: _settle_soon(self._loop, answered, answer),
            is_cancelled=lambda: connection.state is not State.OPEN,
        )
        return await answered

    async def _send(
        self, connection: ServerConnection, answer: Answer, prev_total_ms: float | None
    ) -> bool:
        """Sends the answer; returns whether the connection goes on."""
        if isinstance(answer, Reply):
            if prev_total_ms is not None:
                answer.result["server_timing"]["prev_total_ms"] = prev_total_ms
            try:
                data = packb(answer.result)
            except CodecError as error:
                log.error("reply could not be packed", exception=error, slot=self._slot.name)
                answer = Failure(
                    ErrorCode.INTERNAL, shown(f"the reply could not be packed: {error}")
                )
            else:
                await connection.send(data)
                return True
        if connection.subprotocol == SUBPROTOCOL:
            body = {"code": str(answer.code), "message": answer.message}
            await connection.send(packb({"error": body}))
            return True
        if self._expose_tracebacks and answer.traceback:
            await connection.send(answer.traceback)
            reason = "Internal server error. Traceback included in previous frame."
        else:
            await connection.send(f"{answer.code}: {answer.message}")
            reason = "Internal server error. Message included in previous frame."
        await connection.close(1011, reason)
        return False


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


def _decode(data: str | bytes) -> Any:
    if isinstance(data, str):
        raise ObservationError("observation", "expected a binary frame, got a text frame")
    return unpackb(data)


def _settle_soon(
    loop: asyncio.AbstractEventLoop, answered: asyncio.Future[Answer], answer: Answer
) -> None:
    # a loop that has ended has no client left to answer
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, answered, answer)


def _settle(answered: asyncio.Future[Answer], answer: Answer) -> None:
    if not answered.done():
        answered.set_result(answer)


def _choose_subprotocol(
    _connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    # no match is no error: openpi's server ignores what a client offers
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


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


_PAUSING_OF_AN_ADDRESS = 4
"""Attempts of an address that wait at once; more are refused."""
_BACKLOG = 100
"""As asyncio's."""
_FAREWELL = 1.0
"""s for the clients' closing handshake when the server stops."""

"""openpi's WebSocket protocol, bit for bit.

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
import functools
import http
from collections.abc import Mapping, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse
from websockets.typing import Subprotocol

from flash_transport import CodecError, packb, unpackb
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure, Reply
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.client_events import AnswerSent, ClientNews, MessageReceived
from openpi_flash_server.transports.websocket.slot_call import ask_slot

log = EventLogger(__name__)

LINK = "WebSocket"
SUBPROTOCOL = Subprotocol("openpi-flash.1")


class OpenpiProtocol:
    """Speaks with the clients of one port. On its event loop only, except `publish`.

    Args:
        expose_tracebacks: whether openpi's clients get the server's traceback.
        news: is told of messages and answers.
    """

    def __init__(self, *, expose_tracebacks: bool, news: ClientNews) -> None:
        self._expose_tracebacks = expose_tracebacks
        self._news = news
        self._metadata: bytes | None = None
        self._published = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answering: set[asyncio.Future[None]] = set()
        self.waiting: set[ServerConnection] = set()

    def listening(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop of the port runs."""
        self._loop = loop

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Sends the metadata to clients that wait or will come; from any thread."""
        self._metadata = packb(dict(metadata))
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._published.set)

    @property
    def unpublished_because(self) -> str | None:
        """Why clients wait; None if they do not."""
        return "starting" if self._metadata is None else None

    def refusal(
        self, connection: ServerConnection, request: HttpRequest, slot: Slot
    ) -> HttpResponse | None:
        """The answer to one of our clients while the server is not ready; None lets it in."""
        reason = slot.not_ready_because or self.unpublished_because
        offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
        if reason is None or SUBPROTOCOL not in offered.replace(" ", "").split(","):
            return None
        return connection.respond(
            http.HTTPStatus.SERVICE_UNAVAILABLE, f"{ErrorCode.NOT_READY}: {reason}\n"
        )

    def choose_subprotocol(
        self, _connection: ServerConnection, offered: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        """Ours, if the client offers it."""
        # no match is no error: openpi's server ignores what a client offers
        return SUBPROTOCOL if SUBPROTOCOL in offered else None

    async def talk(self, connection: ServerConnection, client: Client, slot: Slot) -> None:
        """Answers the requests of a connection until it ends."""
        if self._metadata is None:
            log.info("client waits for the start", slot=slot.name, peer=client.name)
            await self._wait_until_published(connection)
        if self._metadata is None:
            return
        await connection.send(self._metadata)
        prev_total_ms: float | None = None
        while True:
            data = await connection.recv()
            received_at = slot.clock()
            self._news.tell(MessageReceived(LINK, len(data)))
            sent = asyncio.get_running_loop().create_future()
            self._answering.add(sent)
            try:
                answer = await ask_slot(slot, functools.partial(_decode, data), client, connection)
                if not await self._send(connection, answer, prev_total_ms, slot):
                    return
                prev_total_ms = (slot.clock() - received_at) * 1000
            finally:
                self._answering.discard(sent)
                sent.set_result(None)

    async def answers_sent(self, timeout: float) -> bool:
        """Waits for pending answers; returns whether all were sent within `timeout` s."""
        if not self._answering:
            return True
        _, pending = await asyncio.wait(self._answering, timeout=timeout)
        return not pending

    async def _wait_until_published(self, connection: ServerConnection) -> None:
        published = asyncio.ensure_future(self._published.wait())
        left = asyncio.ensure_future(connection.wait_closed())
        self.waiting.add(connection)
        await asyncio.wait({published, left}, return_when=asyncio.FIRST_COMPLETED)
        self.waiting.discard(connection)
        for task in (published, left):
            task.cancel()

    async def _send(
        self,
        connection: ServerConnection,
        answer: Answer,
        prev_total_ms: float | None,
        slot: Slot,
    ) -> bool:
        """Sends the answer; returns whether the connection goes on."""
        if isinstance(answer, Reply):
            if prev_total_ms is not None:
                answer.result["server_timing"]["prev_total_ms"] = prev_total_ms
            began = slot.clock()
            try:
                data = packb(answer.result)
            except CodecError as error:
                log.error("reply could not be packed", exception=error, slot=slot.name)
                answer = Failure(
                    ErrorCode.INTERNAL, shown(f"the reply could not be packed: {error}")
                )
            else:
                await connection.send(data)
                send_ms = (slot.clock() - began) * 1000
                self._news.tell(AnswerSent(LINK, len(data), send_ms))
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


def _decode(data: str | bytes) -> Any:
    if isinstance(data, str):
        raise ObservationError("observation", "expected a binary frame, got a text frame")
    return unpackb(data)

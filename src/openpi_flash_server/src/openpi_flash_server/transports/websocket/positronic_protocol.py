"""Positronic's session protocol, version 1: `/api/v1/models` and `/api/v1/session[/{id}]`.

The server sends `{status: loading | waiting, message}` while the session's checkpoint is not there,
then `{status: ready, meta}` once. Then it answers each observation with `{result: [action, …]}` or
`{error}`; an error leaves the session as it was. A session that cannot begin gets
`{status: error, error}` and the close code 1008. All frames are binary, in openpi's msgpack.
Source: `positronic/offboard` at edd89d49, and what clients of positronic 0.2.1 and 0.4.1 accept.

A ready frame without `protocol_version` makes later clients speak version 1, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from flash_transport import CodecError, packb, unpackb
from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.positronic.codecs import (
    CODECS,
    ChunkTiming,
    CodecName,
    decode_actions,
    encode_observation,
)
from openpi_flash_server.positronic.session_meta import session_meta
from openpi_flash_server.slot.answer import Answer, Failure
from openpi_flash_server.slot.client import Client
from openpi_flash_server.transports.client_events import AnswerSent, ClientNews, MessageReceived
from openpi_flash_server.transports.websocket.checkpoint_source import (
    CheckpointSource,
    Lease,
    Unavailable,
)
from openpi_flash_server.transports.websocket.slot_call import ask_slot, visiting

log = EventLogger(__name__)

LINK = "WebSocket"

PREFIX = "/api/v1/"
MODELS_PATH = PREFIX + "models"
KEEPALIVE_PATH = PREFIX + "keepalive"
SESSION_PATH = PREFIX + "session"

STATUS_EVERY = 5.0
"""s between two frames of a session that waits; clients give up after 30 s of silence."""


@dataclass(frozen=True)
class PositronicSessions:
    """How the sessions of one port are answered.

    Attributes:
        codec: what observations and actions mean.
        timing: of the rows of a chunk.
        flip_grip: whether the policy's grip is 1 for open, where Positronic's is 0.
        checkpoints: which may be asked for.
        host: where the server listens, for the client's records.
    """

    codec: CodecName
    timing: ChunkTiming
    flip_grip: bool
    checkpoints: CheckpointSource
    host: str


class PositronicProtocol:
    """Speaks with the Positronic clients of one port. On its event loop only, except `publish`.

    Args:
        news: is told of messages and answers.
        status_every: s between two frames of a session that waits.

    Attributes:
        sessions: how they are answered; None refuses them.
        port: of the WebSocket, for the client's records.
    """

    def __init__(self, *, news: ClientNews, status_every: float = STATUS_EVERY) -> None:
        self.sessions: PositronicSessions | None = None
        self.port = 0
        self._news = news
        self._status_every = status_every
        self._published = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answering: set[asyncio.Future[None]] = set()

    def listening(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop of the port runs."""
        self._loop = loop

    def publish(self) -> None:
        """Lets waiting sessions begin; from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._published.set)

    async def page(self, connection: ServerConnection, request: HttpRequest) -> HttpResponse | None:
        """The answer to a request for a path of the API; None lets a session begin."""
        path, _, _ = request.path.partition("?")
        method = getattr(request, "method", "GET")
        upgrades = ",".join(request.headers.get_all("Upgrade"))
        if "websocket" in upgrades.lower():
            return self._refused_upgrade(connection, path)
        if self.sessions is None:
            return _json(connection, http.HTTPStatus.NOT_FOUND, {"detail": _NOT_CONFIGURED})
        pages = {MODELS_PATH: "GET", KEEPALIVE_PATH: "POST"}
        if path not in pages:
            return _json(connection, http.HTTPStatus.NOT_FOUND, {"detail": "Not Found"})
        if method != pages[path]:
            detail = {"detail": "Method Not Allowed"}
            return _json(connection, http.HTTPStatus.METHOD_NOT_ALLOWED, detail)
        if path == KEEPALIVE_PATH:
            # null: the server does not stop for lack of sessions
            return _json(connection, http.HTTPStatus.OK, {"alive_seconds": None})
        names = await asyncio.to_thread(self.sessions.checkpoints.names)
        return _json(connection, http.HTTPStatus.OK, {"models": names})

    def _refused_upgrade(self, connection: ServerConnection, path: str) -> HttpResponse | None:
        name = _session_of(path)
        if self.sessions is not None and name is not None and "/" not in name:
            return None
        # 403 is what the clients take for a server of sessions without this one
        reason = "no such session" if self.sessions is not None else _NOT_CONFIGURED
        return connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")

    async def talk(self, connection: ServerConnection, client: Client) -> None:
        """Holds one session, until its client leaves."""
        assert self.sessions is not None
        assert connection.request is not None
        path, _, query = connection.request.path.partition("?")
        if query:
            await self._refuse(
                connection, "this server takes no session parameters, leave them out"
            )
            return
        await self._say_until(connection, self._published.wait(), lambda: ("loading", "starting"))
        lease = await self._lease(connection, self.sessions, _session_of(path) or None)
        if lease is None:
            return
        try:
            with visiting(lease.slot, client, connection):
                await self._converse(connection, client, self.sessions, lease)
        finally:
            lease.release()

    async def answers_sent(self, timeout: float) -> bool:
        """Waits for pending answers; returns whether all were sent within `timeout` s."""
        if not self._answering:
            return True
        _, pending = await asyncio.wait(self._answering, timeout=timeout)
        return not pending

    async def _lease(
        self, connection: ServerConnection, sessions: PositronicSessions, name: str | None
    ) -> Lease | None:
        """The checkpoint of a session; None if it cannot have it, and has been told."""
        loop = asyncio.get_running_loop()
        given: asyncio.Future[Lease | Unavailable] = loop.create_future()

        def settle(lease: Lease | Unavailable) -> None:
            if not given.done():
                given.set_result(lease)
            elif isinstance(lease, Lease):
                lease.release()

        def ready(lease: Lease | Unavailable) -> None:
            try:
                loop.call_soon_threadsafe(settle, lease)
            except RuntimeError:
                # the loop has ended
                if isinstance(lease, Lease):
                    lease.release()

        request = await asyncio.to_thread(sessions.checkpoints.request, name, ready)
        try:
            await self._say_until(connection, asyncio.shield(given), request.status)
        except BaseException:
            request.cancel()
            if given.done():
                lease = given.result()
                if isinstance(lease, Lease):
                    lease.release()
            given.cancel()
            raise
        lease = given.result()
        if isinstance(lease, Unavailable):
            await self._refuse(connection, lease.reason)
            return None
        return lease

    async def _say_until(
        self,
        connection: ServerConnection,
        event: Awaitable[object],
        status: Callable[[], tuple[str, str]],
    ) -> None:
        """Waits for `event`, and tells the client every few seconds for what."""
        waited = asyncio.ensure_future(event)
        left = asyncio.ensure_future(connection.wait_closed())
        try:
            while True:
                await asyncio.wait(
                    {waited, left},
                    timeout=self._status_every,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if waited.done():
                    return
                while left.done():
                    # raises when the frames that came before are read
                    await connection.recv()
                kind, message = status()
                await connection.send(packb({"status": kind, "message": message}))
        finally:
            waited.cancel()
            left.cancel()

    async def _converse(
        self,
        connection: ServerConnection,
        client: Client,
        sessions: PositronicSessions,
        lease: Lease,
    ) -> None:
        meta = session_meta(
            host=sessions.host,
            port=self.port,
            config_name=lease.config_name,
            checkpoint_path=lease.directory,
            checkpoint_id=lease.name,
            timing=sessions.timing,
        )
        # an episode of its own for a policy that keeps something between requests
        lease.slot.reset(client.name)
        await connection.send(packb({"status": "ready", "meta": meta}))
        while True:
            data = await connection.recv()
            self._news.tell(MessageReceived(LINK, len(data)))
            if isinstance(data, str):
                await self._refuse(connection, "expected a binary frame, got a text frame")
                return
            sent = asyncio.get_running_loop().create_future()
            self._answering.add(sent)
            try:
                answer = await ask_slot(
                    lease.slot,
                    functools.partial(_decode, data, sessions, lease),
                    client,
                    connection,
                )
                began = lease.slot.clock()
                reply = packb(_reply(answer, sessions))
                await connection.send(reply)
                send_ms = (lease.slot.clock() - began) * 1000
                self._news.tell(AnswerSent(LINK, len(reply), send_ms))
            finally:
                self._answering.discard(sent)
                sent.set_result(None)

    async def _refuse(self, connection: ServerConnection, reason: str) -> None:
        await connection.send(packb({"status": "error", "error": reason}))
        await connection.close(1008, reason[:_LONGEST_CLOSE_REASON])


def _session_of(path: str) -> str | None:
    """The checkpoint that a path asks for, empty for the server's own; None: it is no session."""
    if path == SESSION_PATH:
        return ""
    name = path.removeprefix(SESSION_PATH + "/")
    return name if name and name != path else None


def _decode(data: bytes, sessions: PositronicSessions, lease: Lease) -> dict[str, Any]:
    observation = unpackb(data)
    if not isinstance(observation, Mapping):
        raise ObservationError("observation", f"expected a map, got {type(observation).__name__}")
    codec = CODECS[sessions.codec]
    message = encode_observation(codec, observation, flip_grip=sessions.flip_grip)
    if lease.digest is not None:
        message["expected_artifact"] = lease.digest
    return message


def _reply(answer: Answer, sessions: PositronicSessions) -> dict[str, Any]:
    if isinstance(answer, Failure):
        return {"error": answer.message}
    try:
        actions = np.asarray(answer.result.get("actions"))
        codec = CODECS[sessions.codec]
        result = decode_actions(codec, actions, sessions.timing, flip_grip=sessions.flip_grip)
    except (ModelOutputError, CodecError, TypeError, ValueError) as error:
        log.error("a chunk is none for the codec", exception=error, codec=sessions.codec)
        return {"error": shown(str(error))}
    return {"result": result}


def _json(
    connection: ServerConnection, status: http.HTTPStatus, body: Mapping[str, Any]
) -> HttpResponse:
    response = connection.respond(status, json.dumps(body))
    with contextlib.suppress(KeyError):
        del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response


_NOT_CONFIGURED = "this server has no sessions of Positronic: positronic.codec is not set"
_LONGEST_CLOSE_REASON = 100
"""Characters, as in Positronic's server; the protocol allows 123 bytes."""

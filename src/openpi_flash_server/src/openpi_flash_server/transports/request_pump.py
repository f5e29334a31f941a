"""A thread that hands a transport's requests to a slot, and the slot's answers back."""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
from typing import Any, Protocol

from flash_transport import CodecError, FlashTransportError, TransportRequest
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.session import owned_name, session_name
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.vital_thread import vital_thread
from openpi_flash_server.transports.client_events import (
    AnswerSent,
    ClientNews,
    MessageReceived,
    address_of,
)

log = EventLogger(__name__)


class RequestSource(Protocol):
    """A server of `flash_transport`: `QuicServer`, `LocalServer` or `WebsocketServer`."""

    def next_request(self, timeout: float | None = None) -> TransportRequest | None:
        """The next request; None when the server is closed."""

    def client_key(self, name: str) -> int | None:
        """The place of a connected client's API key; None if it is not connected."""


class RequestPump:
    """Hands on requests from its construction until their source is closed.

    Args:
        slot: answers them.
        source: where they come from.
        link: the source's name in the log.
        news: is told of messages and answers.
        sends_first_actions: whether the link carries them ahead of an answer.
    """

    def __init__(
        self,
        slot: Slot,
        source: RequestSource,
        *,
        link: str,
        news: ClientNews,
        sends_first_actions: bool = True,
    ) -> None:
        self._sends_first_actions = sends_first_actions
        self._slot = slot
        self._source = source
        self._link = link
        self._news = news
        self._prev_total_ms: collections.OrderedDict[str, float] = collections.OrderedDict()
        self._prev_total_lock = threading.Lock()
        name = f"{link.lower().replace(' ', '-')}-{slot.name}"
        self._thread = vital_thread(name, self._serve, slot.has_trouble)
        self._thread.start()

    def join(self) -> None:
        """Waits until the last request is handed on; its source is closed."""
        self._thread.join()

    def _serve(self) -> None:
        try:
            while (request := self._source.next_request()) is not None:
                self._take_or_fail(request)
                # its observation must not stay until the next one comes
                del request
        except FlashTransportError as error:
            log.error(
                f"{self._link} failed, restart the server",
                slot=self._slot.name,
                reason=str(error),
            )
            self._slot.has_trouble(f"{self._link} failed: {error}")

    def _take_or_fail(self, request: TransportRequest) -> None:
        try:
            self._take(request)
        # an error of one request must not end the thread
        except Exception as error:
            log.error("request could not be taken", exception=error, peer=request.peer)
            _fail(request, ErrorCode.INTERNAL, shown(f"{type(error).__name__}: {error}"))

    def _take(self, request: TransportRequest) -> None:
        # of a client that has left nobody waits for the answer
        key = self._source.client_key(request.peer) or 0
        client = Client(request.peer, address_of(request.peer), key)
        if request.kind == "reset":
            session = owned_name(session_name(request.session), key, request.peer)
            refused = self._slot.reset(session, by=client)
            if refused is not None:
                _fail(request, refused.code, refused.message)
                return
            request.respond({})
            return
        received_at = self._slot.clock()
        self._news.tell(MessageReceived(self._link, request.size))
        self._slot.receive(
            lambda: request.observation,
            client=client,
            session=request.session,
            respond=lambda answer: self._answer(request, answer, received_at),
            is_cancelled=lambda: request.cancelled,
            respond_first=(
                functools.partial(self._send_first, request) if self._sends_first_actions else None
            ),
        )

    def _send_first(self, request: TransportRequest, first: dict[str, Any]) -> None:
        try:
            request.send_first_actions(first)
        except CodecError as error:
            log.error("first actions could not be packed", exception=error, slot=self._slot.name)
        except FlashTransportError as error:
            log.debug("client left before its answer", peer=request.peer, reason=str(error))

    def _answer(self, request: TransportRequest, answer: Answer, received_at: float) -> None:
        if isinstance(answer, Failure):
            _fail(request, answer.code, answer.message, answer.traceback)
            return
        with self._prev_total_lock:
            prev_total_ms = self._prev_total_ms.get(request.peer)
        if prev_total_ms is not None:
            answer.result["server_timing"]["prev_total_ms"] = prev_total_ms
        began = self._slot.clock()
        try:
            size = request.respond(answer.result)
            send_ms = (self._slot.clock() - began) * 1000
            self._news.tell(AnswerSent(self._link, size, send_ms))
        except CodecError as error:
            log.error("reply could not be packed", exception=error, slot=self._slot.name)
            _fail(request, ErrorCode.INTERNAL, shown(f"the reply could not be packed: {error}"))
        except FlashTransportError as error:
            log.debug("client left before its answer", peer=request.peer, reason=str(error))
        self._remember(request.peer, (self._slot.clock() - received_at) * 1000)

    def _remember(self, peer: str, total_ms: float) -> None:
        with self._prev_total_lock:
            self._prev_total_ms[peer] = total_ms
            self._prev_total_ms.move_to_end(peer)
            if len(self._prev_total_ms) > _REMEMBERED_PEERS:
                self._prev_total_ms.popitem(last=False)


def _fail(request: TransportRequest, code: ErrorCode, message: str, traceback: str = "") -> None:
    # a client that left needs no error
    with contextlib.suppress(FlashTransportError):
        request.fail(str(code), message, traceback)


_REMEMBERED_PEERS = 1024
"""Connections whose last total time is kept for their next reply."""

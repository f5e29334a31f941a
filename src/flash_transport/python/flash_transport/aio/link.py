"""One QUIC connection: sends each request on its own stream, and keeps why it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StreamDataReceived,
    StreamReset,
)
from cryptography.hazmat.primitives.serialization import Encoding

from flash_transport.aio.wire import Signal, split_first
from flash_transport.outside_text import shown

__all__ = ["AnswerTooLarge", "EndedBefore", "Link", "LostInExchange"]

KEEP_ALIVE_S = 1.0
"""Seconds between PINGs: NATs drop idle connections, and an idle one hides a dead server."""
REFUSALS_OF_A_DEAD_SERVER = 3
"""ICMP refusals in a row that end a connection; one may be of a server before its restart."""
PROBE_S = 0.01
NOBODY_LISTENS = "nothing listens there"
FORGOTTEN = (
    "the server does not know the connection any more: it has been restarted, or has heard nothing "
    "for so long that it gave the connection up"
)
CRYPTO_ERROR = 0x0100
NO_APPLICATION_PROTOCOL = CRYPTO_ERROR + 120
CONNECTION_REFUSED = 0x02


class EndedBefore(Exception):  # noqa: N818 - never seen outside
    """The connection ended before the server began the request, which may be sent again."""


class LostInExchange(Exception):  # noqa: N818
    """The connection, or the answer, was lost after the request was sent."""


class AnswerTooLarge(Exception):  # noqa: N818
    """The answer is larger than its limit."""


TakeFirst = Callable[[bytes], None]
"""Takes the map of first actions; what it raises ends the request."""


class _Answer:
    def __init__(self, limit: int, take_first: TakeFirst | None) -> None:
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._data = bytearray()
        self._take_first = take_first

    def receive(self, data: bytes, *, is_end: bool) -> None:
        self._data += data
        if len(self._data) > self._limit:
            self.fail(AnswerTooLarge())
            return
        if self._take_first is not None and (parts := split_first(self._data)) is not None:
            first, rest = parts
            self._data = bytearray(rest)
            take, self._take_first = self._take_first, None
            try:
                take(first)
            # a caller's function must not end the connection
            except Exception as error:
                self.fail(error)
        if is_end and not self.whole.done():
            self.whole.set_result(bytes(self._data))

    def fail(self, error: Exception) -> None:
        if not self.whole.done():
            self.whole.set_exception(error)


class Link(QuicConnectionProtocol):
    """A connection over a socket that is connected to one address.

    Attributes:
        ready: resolves when the handshake is complete.
        over: set when the connection has ended.
        end_code: QUIC's error code of the end, if a peer or TLS gave one.
    """

    def __init__(self, quic: QuicConnection, stream_handler: Any = None) -> None:
        super().__init__(quic, stream_handler)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.end_code: int | None = None
        self._end = ""
        self._answers: dict[int, _Answer] = {}
        self._refusals = 0
        self._keeper: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether the connection is open."""
        return not self._end

    @property
    def certificate(self) -> bytes:
        """The server's certificate in DER form; TLS has checked that the server owns its key."""
        certificate = self._quic.tls._peer_certificate
        assert certificate is not None, "asked before the handshake"
        return certificate.public_bytes(Encoding.DER)

    async def exchange(
        self,
        request: bytes,
        limit: int,
        started: Callable[[int], None] = lambda _stream: None,
        take_first: TakeFirst | None = None,
    ) -> bytes:
        """Sends one request and returns its answer; if cancelled, cancels it at the server.

        Args:
            request: its bytes.
            limit: largest answer, in bytes.
            started: called with the stream's number.
            take_first: takes the first actions, if the request asks for them.

        Raises:
            EndedBefore: the connection ended before the server began the request.
            LostInExchange: the connection or the answer was lost.
            AnswerTooLarge: the answer has more than `limit` bytes.
        """
        # aioquic would queue a stream beyond the server's limit, and cancelling would break it
        while self.is_up and not self._may_open():
            self._news.clear()
            await self._news.wait()
        if not self.is_up:
            raise EndedBefore(self._end)
        stream = self._quic.get_next_available_stream_id()
        answer = self._answers[stream] = _Answer(limit, take_first)
        self._quic.send_stream_data(stream, request, end_stream=True)
        self.transmit()
        started(stream)
        is_answered = False
        try:
            data = await answer.whole
            is_answered = True
            return data
        finally:
            del self._answers[stream]
            if not is_answered and self.is_up:
                self._cancel(stream)

    def has_left(self, stream: int) -> bool:
        """Whether all bytes of a request have been sent."""
        state = self._quic._streams.get(stream)
        return state is None or state.sender.buffer_is_empty

    def hang_up(self, reason: str) -> None:
        """Ends the connection from here."""
        if not self.is_up:
            return
        self._quic.close(error_code=Signal.DONE, reason_phrase="")
        self.transmit()
        self._ended(reason)

    def quic_event_received(self, event: QuicEvent) -> None:
        """Called by aioquic for each event."""
        if isinstance(event, StreamDataReceived):
            if event.stream_id in self._answers:
                self._answers[event.stream_id].receive(event.data, is_end=event.end_stream)
        elif isinstance(event, StreamReset):
            if event.stream_id in self._answers:
                reason = _RESETS.get(event.error_code, "the server gave up on this request")
                self._answers[event.stream_id].fail(LostInExchange(reason))
        elif isinstance(event, HandshakeCompleted):
            if not self.ready.done():
                self.ready.set_result(None)
            self._keep_alive()
        elif isinstance(event, ConnectionTerminated) and self.is_up:
            self.end_code = event.error_code if event.frame_type is not None else None
            # this server has answered every request that it had begun
            is_clean = event.frame_type is None and event.error_code == Signal.SHUTTING_DOWN
            self._ended(_describe(event), EndedBefore if is_clean else LostInExchange)

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """Called by asyncio for each datagram."""
        self._refusals = 0
        if self.is_up and self._is_stateless_reset(data):
            self._ended(FORGOTTEN)
            return
        super().datagram_received(data, addr)
        self._news.set()

    def error_received(self, exc: Exception) -> None:
        """Called by asyncio with an ICMP error, such as that nothing listens on the port."""
        self._refusals += isinstance(exc, ConnectionRefusedError)
        limit = REFUSALS_OF_A_DEAD_SERVER if self.ready.done() else 1
        if not self.is_up:
            return
        if self._refusals >= limit:
            self._ended(NOBODY_LISTENS)
        else:
            # aioquic retransmits much later: ask again soon
            self._loop.call_later(PROBE_S, self._probe)

    def _is_stateless_reset(self, data: bytes | str) -> bool:
        """Whether the server forgot us (RFC 9000, section 10.3.1); aioquic does not check."""
        token = self._quic._peer_cid.stateless_reset_token
        return bool(token) and len(data) > len(token) and data[-len(token) :] == token

    def _probe(self) -> None:
        if self.is_up:
            self._quic.send_ping(0)
            self.transmit()

    def _keep_alive(self) -> None:
        if self.is_up:
            self._probe()
            self._keeper = self._loop.call_later(KEEP_ALIVE_S, self._keep_alive)

    def _may_open(self) -> bool:
        """Whether the server's stream limit allows one more."""
        return self._quic.get_next_available_stream_id() // 4 < self._quic._remote_max_streams_bidi

    def _cancel(self, stream: int) -> None:
        # each fails if its half of the stream has ended already
        with contextlib.suppress(AssertionError, ValueError):
            self._quic.stop_stream(stream, Signal.CANCELLED)
        with contextlib.suppress(AssertionError, ValueError):
            self._quic.reset_stream(stream, Signal.CANCELLED)
        self.transmit()

    def _ended(self, reason: str, meaning: type[Exception] = LostInExchange) -> None:
        self._end = reason
        self.over.set()
        self._news.set()
        for answer in self._answers.values():
            answer.fail(meaning(reason))
        if not self.ready.done():
            self.ready.set_exception(LostInExchange(reason))
            self.ready.exception()  # fetched, or asyncio would report it if no task waits
        for timer in (self._keeper, self._timer):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._transport.close()


def _describe(event: ConnectionTerminated) -> str:
    """Why a connection ended, for users who do not know QUIC."""
    if event.frame_type is None:
        said = f"the server closed it: {shown(event.reason_phrase)}"
        plain = _CLOSES.get(event.error_code, "the server closed it")
        return said if event.reason_phrase and event.error_code not in _CLOSES else plain
    if event.error_code == CONNECTION_REFUSED:
        return "the server refused it, it may have too many clients"
    if event.reason_phrase == "Idle timeout":
        return "the server is silent"
    return shown(event.reason_phrase) or f"QUIC error {event.error_code:#x}"


_UNFINISHED = "the server stopped before it had answered"
_CLOSES: dict[int, str] = {
    Signal.SHUTTING_DOWN: "the server shuts down",
    Signal.UNFINISHED: _UNFINISHED,
}
_RESETS: dict[int, str] = {
    Signal.TOO_SLOW: ("the server gave up on sending its answer, this client read too slowly"),
    Signal.UNFINISHED: _UNFINISHED,
}

"""One attempt to connect: name lookup, socket, handshake, trust, hello."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from flash_transport.aio.link import (
    CRYPTO_ERROR,
    NO_APPLICATION_PROTOCOL,
    AnswerTooLarge,
    EndedBefore,
    Link,
    LostInExchange,
)
from flash_transport.aio.trust import Trust, why_not_authorised
from flash_transport.aio.wire import ALPN, failure_of, read_answer
from flash_transport.errors import Disconnected, ServerError

__all__ = ["AttemptFailed", "Server", "dial"]

ADDRESS_TIME_S = 1.0
"""Least time for each address of a name."""
IDLE_S = 10.0
SOCKET_BUFFER_BYTES = 4 << 20
"""Socket buffer: the kernel's default overflows when an answer arrives in one flight."""
WINDOW_BYTES = 16 << 20
HELLO_ANSWER_BYTES = 64 << 20
LOCK_PART = 0.5
"""Largest share of an attempt's time to wait for the lock of `known_servers`."""
CERTIFICATE_ALERTS = range(42, 50)


class AttemptFailed(Exception):  # noqa: N818 - never seen outside
    """The next attempt may succeed.

    Attributes:
        not_ready: the answer of a server that still warms up.
    """

    def __init__(self, reason: str, not_ready: ServerError | None = None) -> None:
        super().__init__(reason)
        self.not_ready = not_ready


@dataclass(frozen=True)
class Server:
    """The server to connect to.

    Attributes:
        host: name or address.
        port: UDP port.
        trust: how to verify the server.
        hello: the bytes of the first request.
    """

    host: str
    port: int
    trust: Trust
    hello: bytes

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def dial(server: Server, within: float) -> tuple[Link, bytes]:
    """Connects; returns the connection and the bytes of the answer to its hello.

    Raises:
        AttemptFailed: another attempt may succeed.
        FlashTransportError: no attempt will succeed until somebody changes something.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    addresses = await _resolve(server, within)
    failure = AttemptFailed("the name has no address")
    for index, (family, address) in enumerate(addresses):
        share = (until - loop.time()) / (len(addresses) - index)
        attempt = _dial_address(server, family, address, LOCK_PART * share)
        try:
            return await asyncio.wait_for(attempt, max(share, ADDRESS_TIME_S))
        except asyncio.TimeoutError:
            failure = AttemptFailed("the server is silent")
        except AttemptFailed as error:
            failure = error
    raise failure


async def _resolve(server: Server, within: float) -> list[tuple[int, Any]]:
    def look_up() -> list[Any]:
        return socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)

    try:
        found = await asyncio.wait_for(_on_a_thread(look_up), within)
    except asyncio.TimeoutError:
        raise AttemptFailed("looking up the host's name takes too long") from None
    except OSError as error:
        raise AttemptFailed(f"cannot look up the host's name: {error}") from None
    return [(family, address) for family, _, _, _, address in found]


def _on_a_thread(work: Callable[[], list[Any]]) -> asyncio.Future[list[Any]]:
    """Runs `work` on a daemon thread and returns its result.

    The loop's own executor would make the program wait at its end for a resolver that hangs.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Any]] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except OSError as error:
            tell(functools.partial(future.set_exception, error))
        else:
            tell(functools.partial(future.set_result, result))

    def tell(outcome: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if future.done() else outcome())

    threading.Thread(target=run, name="flash-resolve", daemon=True).start()
    return future


async def _dial_address(
    server: Server, family: int, address: Any, lock_s: float
) -> tuple[Link, bytes]:
    link = await _open(server, family, address)
    is_good = False
    try:
        try:
            await link.ready
        except LostInExchange as error:
            raise _judge_handshake(server, link, str(error)) from None
        await server.trust.check(str(server), link.certificate, lock_s)
        answer = await _say_hello(server, link)
        is_good = True
        return link, answer
    finally:
        if not is_good:
            link.hang_up("given up")


async def _open(server: Server, family: int, address: Any) -> Link:
    authorities = server.trust.authorities
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[ALPN],
        idle_timeout=IDLE_S,
        max_data=WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
        # A server must prove that it owns its key, not this name; TLS checks that either way.
        server_name="openpi-flash" if authorities is None else server.host,
        verify_mode=ssl.CERT_NONE if authorities is None else ssl.CERT_REQUIRED,
    )
    if authorities is not None:
        configuration.load_verify_locations(cadata=authorities)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER_BYTES)
        # connected, so that the kernel reports an ICMP error when nothing listens
        sock.connect(address)
        _, link = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Link(QuicConnection(configuration=configuration)), sock=sock
        )
    except OSError as error:
        sock.close()
        raise AttemptFailed(str(error)) from None
    link.connect(address)
    return link


def _judge_handshake(server: Server, link: Link, reason: str) -> Exception:
    if link.end_code == NO_APPLICATION_PROTOCOL or "common protocol version" in reason:
        return Disconnected(
            f"{server} speaks another protocol or another version of it, this client speaks "
            f"{ALPN}; check that the port is the server's QUIC port"
        )
    ca_file, alert = server.trust.ca_file, (link.end_code or 0) - CRYPTO_ERROR
    if ca_file is not None and alert in CERTIFICATE_ALERTS:
        return why_not_authorised(str(server), ca_file, alert, reason)
    return AttemptFailed(reason)


async def _say_hello(server: Server, link: Link) -> bytes:
    try:
        answer = await link.exchange(server.hello, HELLO_ANSWER_BYTES)
    except (EndedBefore, LostInExchange) as error:
        raise AttemptFailed(str(error)) from None
    except AnswerTooLarge:
        raise AttemptFailed("its metadata is too large") from None
    failure = failure_of(answer, str(server))
    if isinstance(failure, ServerError) and failure.code == "not_ready":
        raise AttemptFailed(failure.message, failure)
    read_answer(answer, str(server))
    return answer

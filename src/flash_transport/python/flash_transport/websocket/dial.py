"""Connecting: name lookup, proxy, and attempts until there is a connection or no time is left."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from flash_transport.deadline import Deadline
from flash_transport.errors import Disconnected
from flash_transport.interruptible import Abandoned, Attempt
from flash_transport.websocket.connection import KNOWS_PROXIES, Connection, open_connection
from flash_transport.websocket.failures import cannot_connect, may_pass
from flash_transport.websocket.proxies import Proxy, is_local_name, is_public, proxy_for
from flash_transport.websocket.target import Target
from flash_transport.websocket.trust import TlsTrust

__all__ = ["Dialer", "backoff"]


@dataclass(frozen=True)
class _Way:
    """How to reach the server: at its addresses, or through a proxy."""

    addresses: list[tuple[str, int]]
    proxy: Proxy | None = None
    note: str = ""


class Dialer:
    """Makes connections to one server, for one thread at a time.

    Args:
        target: the server.
        headers: of the handshake's request.
        trust: how to verify a `wss://` server.
    """

    def __init__(self, target: Target, headers: dict[str, str], trust: TlsTrust) -> None:
        self._target = target
        self._tls = trust.context(target) if target.is_secure else None
        self._headers = headers
        self._closed = threading.Event()
        self._attempt: Attempt[Connection] | None = None

    @property
    def target(self) -> Target:
        """The server."""
        return self._target

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Ends the wait of a thread that connects, and of those in `pause`."""
        self._closed.set()
        attempt = self._attempt
        if attempt is not None:
            attempt.abandon()

    def pause(self, seconds: float) -> None:
        """Waits, unless closed.

        Raises:
            Disconnected: closed.
        """
        if self._closed.wait(seconds):
            raise self.closed_error()

    def closed_error(self) -> Disconnected:
        """The error of a closed client."""
        return Disconnected(f"this client of {self._target} is closed")

    def connect(self, deadline: Deadline) -> tuple[Connection, int]:
        """Connects; returns the connection and the number of attempts.

        Raises:
            FlashTransportError: why there is no connection.
        """
        failure: Exception | None = None
        # outside the handlers, so that their exception is not the error's context
        way = _Way([])
        for attempts, delay in enumerate(backoff(), 1):
            try:
                way, connection = self._try(deadline)
            except Abandoned:
                break
            except _NoConnection as error:
                way, latest = error.way, error.reason
            else:
                return connection, attempts
            # the last attempt may have had too little time to learn the cause
            if failure is None or not isinstance(latest, TimeoutError):
                failure = latest
            if not may_pass(latest):
                break
            left = deadline.left(time.monotonic())
            if self._closed.wait(delay if left is None else min(delay, left)):
                break
            if deadline.is_over(time.monotonic()):
                break
        if self._closed.is_set() or failure is None:
            raise self.closed_error()
        told = cannot_connect(self._target, failure, deadline, way.proxy, way.note)
        # an error from a proxy may hold its password
        raise told from (None if told is failure or way.proxy is not None else failure)

    def _try(self, deadline: Deadline) -> tuple[_Way, Connection]:
        ways: list[_Way] = []

        def work() -> Connection:
            ways.append(_way_to(self._target))
            way = ways[0]
            if way.proxy is not None and way.proxy.problem is not None:
                raise ValueError(
                    f"{way.proxy.variable} {way.proxy.problem}; write it as http://host:port"
                )
            return open_connection(
                self._target, self._headers, deadline, way.addresses, way.proxy, tls=self._tls
            )

        attempt = self._attempt = Attempt(work, Connection.abort)
        if self._closed.is_set():
            raise Abandoned
        try:
            connection = attempt.result(deadline.left(time.monotonic()))
        except Abandoned:
            raise
        except Exception as error:
            raise _NoConnection(ways[0] if ways else _NAME_UNKNOWN, error) from None
        finally:
            self._attempt = None
        return ways[0], connection


_NAME_UNKNOWN = _Way([], note="; looking up its name takes too long")


class _NoConnection(Exception):  # noqa: N818 - never seen outside
    def __init__(self, way: _Way, reason: Exception) -> None:
        super().__init__(reason)
        self.way = way
        self.reason = reason


def backoff() -> Iterator[float]:
    """Seconds between attempts, randomised so that robots do not reconnect all at once."""
    step = 0.05
    while True:
        yield random.uniform(step / 2, step)
        step = min(2 * step, _LONGEST_PAUSE_S)


_LONGEST_PAUSE_S = 0.4
"""A server that is there again is found within half a second."""


def _way_to(target: Target) -> _Way:
    """The server's addresses; or the proxy, if there is one and no address is in its own network.

    Raises:
        OSError: the name has no address, and there is no proxy to look it up.
    """
    proxy = proxy_for(target.host, target.port, is_secure=target.is_secure, environment=os.environ)
    try:
        addresses = _look_up(target)
    except OSError:
        # behind a proxy, public names often cannot be looked up
        if proxy is None or not KNOWS_PROXIES:
            raise
        return _Way([], proxy)
    if proxy is None or is_local_name(target.host) or not is_public(a[0] for a in addresses):
        return _Way(addresses)
    if KNOWS_PROXIES:
        return _Way([], proxy)
    return _Way(
        addresses,
        note=f". The proxy {proxy} is not used: that takes websockets 15 or newer",
    )


def _look_up(target: Target) -> list[tuple[str, int]]:
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return [(str(address[0]), target.port) for _, _, _, _, address in found]

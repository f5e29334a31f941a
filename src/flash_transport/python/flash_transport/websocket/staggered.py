"""A TCP connection by attempts that begin while earlier ones are still under way."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Iterable

from flash_transport.deadline import Deadline

__all__ = ["connected_socket"]

GAP_S = 0.25
"""From one attempt to the next, as in RFC 8305. The kernel repeats a lost first packet after 1 s,
3 s and 7 s: a single attempt notices the end of an outage up to 4 s late."""
MOST_UNDER_WAY = 8
"""Then the oldest is given up: it has had 2 s, longer than any round trip."""
LONGEST_S = 120.0
"""Where there is no deadline."""


def connected_socket(addresses: Iterable[tuple[str, int]], deadline: Deadline) -> socket.socket:
    """Connects to the address that answers first; they are tried in turn.

    Args:
        addresses: IP addresses and ports.
        deadline: for all attempts.

    Returns:
        A blocking socket.

    Raises:
        OSError: each address refuses, or there is none.
        TimeoutError: none answers in time.
    """
    ways = [_way(host, port) for host, port in addresses]
    now = time.monotonic()
    left = deadline.left(now)
    until = now + (LONGEST_S if left is None else left)
    with _Attempts() as attempts:
        failure: OSError = OSError("the name has no address")
        refused: set[int] = set()
        number = 0
        while len(refused) < len(ways):
            index = number % len(ways)
            number += 1
            if index not in refused:
                try:
                    attempts.begin(index, *ways[index])
                except OSError as error:
                    failure = error
                    refused.add(index)
                    continue
            gap_end = min(time.monotonic() + GAP_S, until)
            while (seconds := gap_end - time.monotonic()) > 0 and attempts.any_under_way:
                for of, ended in attempts.ended(seconds):
                    if isinstance(ended, socket.socket):
                        return ended
                    failure = ended
                    refused.add(of)
            if time.monotonic() >= until:
                raise TimeoutError("timed out")
        raise failure


class _Attempts:
    """Sockets that connect; closed at the end, but for the first that has."""

    def __init__(self) -> None:
        self._under_way: dict[socket.socket, int] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Attempts:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in list(self._under_way):
            self._forget(sock).close()
        self._selector.close()

    @property
    def any_under_way(self) -> bool:
        return bool(self._under_way)

    def begin(self, index: int, family: int, address: tuple[str, int]) -> None:
        if len(self._under_way) >= MOST_UNDER_WAY:
            self._forget(next(iter(self._under_way))).close()
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        problem = sock.connect_ex(address)
        if problem not in (0, errno.EINPROGRESS):
            sock.close()
            raise _error(problem)
        self._under_way[sock] = index
        self._selector.register(sock, selectors.EVENT_WRITE)

    def ended(self, seconds: float) -> list[tuple[int, socket.socket | OSError]]:
        """The attempts that have ended, and how; waits up to `seconds` for one."""
        ended: list[tuple[int, socket.socket | OSError]] = []
        for key, _ in self._selector.select(seconds):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            index = self._under_way[sock]
            self._forget(sock)
            if problem == 0:
                sock.setblocking(True)
                return [(index, sock)]
            sock.close()
            ended.append((index, _error(problem)))
        return ended

    def _forget(self, sock: socket.socket) -> socket.socket:
        self._selector.unregister(sock)
        del self._under_way[sock]
        return sock


def _way(host: str, port: int) -> tuple[int, tuple[str, int]]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return family, address  # type: ignore[return-value]


def _error(number: int) -> OSError:
    # OSError makes the subclass of its number
    return OSError(number, os.strerror(number))

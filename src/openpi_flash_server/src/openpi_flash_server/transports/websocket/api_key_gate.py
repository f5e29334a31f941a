"""Lets clients with a valid API key in, and slows down addresses that try wrong ones."""

from __future__ import annotations

import asyncio
import hmac
import http
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from openpi_flash_server.transports.client_events import ClientNews, ClientRefused
from openpi_flash_server.transports.key_refusals import KeyRefusals


class ApiKeyGate:
    """The keys of one port. On its event loop only.

    Args:
        api_keys: keys of the clients; empty lets everybody in.
        news: is told of refusals.
        link: the port's name in the log.
        clock: monotonic seconds.
        pause: waits for a number of s, before a key of an address that sent wrong ones is checked.
    """

    def __init__(
        self,
        api_keys: Sequence[str],
        news: ClientNews,
        link: str,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._news = news
        self._link = link
        self._clock = clock
        self._pause = pause
        self._refusals = KeyRefusals()
        self._pausing: Counter[str] = Counter()
        self._secret = secrets.token_bytes(32)
        self._api_keys = [self._tag(key.encode()) for key in api_keys]

    async def refusal(
        self, connection: ServerConnection, request: HttpRequest
    ) -> HttpResponse | None:
        """The answer to a client without a valid key; None lets it in."""
        if not self._api_keys:
            return None
        address = str(connection.remote_address[0]) if connection.remote_address else "unknown"
        delay = self._refusals.delay(address, self._clock())
        if delay:
            if self._pausing[address] >= _PAUSING_OF_AN_ADDRESS:
                self._refused(address, "too many attempts at once")
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
        if self.place(request) is not None:
            return None
        self._refusals.refused(address, self._clock())
        sent = "Authorization" in request.headers
        self._refused(address, "wrong API key" if sent else "no API key")
        message = "send the header Authorization: Api-Key <key> with a key of this server\n"
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, message)

    def _refused(self, address: str, reason: str) -> None:
        self._news.tell(ClientRefused(self._link, address, reason))

    def place(self, request: HttpRequest) -> int | None:
        """The place of the request's key in the list; None if it is not there."""
        scheme, _, key = ",".join(request.headers.get_all("Authorization")).partition(" ")
        # every key is compared, so that the time tells nothing about the keys
        given = self._tag(key.strip().encode("utf-8", "surrogateescape"))
        matches = [hmac.compare_digest(given, known) for known in self._api_keys]
        if scheme.lower() not in _SCHEMES or not any(matches):
            return None
        return matches.index(True)

    def _tag(self, key: bytes) -> bytes:
        """A digest to compare instead of the key: of fixed length, and useless to an attacker."""
        return hmac.digest(self._secret, key, "sha256")


_SCHEMES = ("api-key", "bearer")
"""openpi's, and that of Positronic's clients."""
_PAUSING_OF_AN_ADDRESS = 4
"""Attempts of an address that wait at once; more are refused."""

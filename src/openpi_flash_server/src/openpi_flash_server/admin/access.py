"""Who may use the operator's port.

With keys, a request carries one of them as `Authorization: Bearer KEY`. Without keys the port is
for this machine only, and a request must name it as its host: otherwise a web page could reach the
port through a name that its owner points at 127.0.0.1 (DNS rebinding). Health and the page's own
files, which hold nothing about the server, need no key.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Sequence

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from openpi_flash_server.config.listen_address import is_loopback
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.logs.repeat_limit import RepeatLimit
from openpi_flash_server.transports.key_refusals import KeyRefusals

log = EventLogger(__name__)

OPEN_PATHS = frozenset(
    {"/", "/page.css", "/page.js", "/healthz", "/readyz", "/livez"}
    | {"/v2/health/live", "/v2/health/ready"}
)

_MODEL_IS_READY = re.compile(r"/v2/models/[^/]+/ready")


class AccessGate:
    """Lets operators through to `app`.

    Args:
        app: answers them.
        keys: of operators; empty lets in who names this machine as the host.
        host: the address that is listened on.
        clock: monotonic seconds.
        pause: waits for a number of s, before a key of an address that sent wrong ones is checked.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str],
        host: str,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._host = host
        self._clock = clock
        self._pause = pause
        self._wrong = KeyRefusals()
        self._lines = RepeatLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a refused request; hands on the others."""
        if scope["type"] == "http":
            refusal = await self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if not self._keys:
            if self._names_this_machine(headers.get("host", "")):
                return None
            return PlainTextResponse(
                "ask for localhost or the address that this port listens on\n", 421
            )
        if scope["path"] in OPEN_PATHS or _MODEL_IS_READY.fullmatch(scope["path"]):
            return None
        address = str(scope["client"][0]) if scope.get("client") else "unknown"
        if delay := self._wrong.delay(address, self._clock()):
            await self._pause(delay)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        # every key is compared, so that the time tells nothing about the keys
        given = key.strip().encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        if scheme.lower() == "bearer" and any(matches):
            return None
        # a page that asks for the key is no attempt to guess it
        if key:
            self._wrong.refused(address, self._clock())
            self._log(address)
        return PlainTextResponse(
            "send the header Authorization: Bearer <key> with the server's admin key\n",
            401,
            {"WWW-Authenticate": "Bearer"},
        )

    def _names_this_machine(self, host: str) -> bool:
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]").lower()
        return name == self._host.lower() or is_loopback(name)

    def _log(self, address: str) -> None:
        if times := self._lines.occurred(address, self._clock()):
            log.warning("operator refused", address=shown(address), reason="wrong key", times=times)

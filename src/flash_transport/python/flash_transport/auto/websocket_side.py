"""WebSocket for a client that chooses: over TLS with the trust of QUIC, else only where allowed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from flash_transport import unpackb
from flash_transport.auto.fallback import Fallback
from flash_transport.errors import Disconnected
from flash_transport.first_actions import FirstActions
from flash_transport.futures import InferenceFuture
from flash_transport.not_begun import NotBegun
from flash_transport.websocket.connection import Connection
from flash_transport.websocket.dial import Dialer
from flash_transport.websocket.failures import NoTls
from flash_transport.websocket.policy import Ask, WebsocketPolicy
from flash_transport.websocket.trust import TlsTrust

__all__ = ["WebsocketSide", "open_websocket"]

DEADLINE_KEY = "deadline_ms"
AT_ONCE_S = 1.0
"""A server that ends unused connections sooner would be asked for the next one without end."""


class WebsocketSide(WebsocketPolicy):
    """A `WebsocketPolicy` that verifies its server as QUIC verifies it.

    After `when_lost` it does not connect again: when its connection is gone, its requests end in
    `NotBegun`.

    Args:
        server: as known servers know it.
        session: of the requests that name none.
        host, options: of `WebsocketPolicy`.
    """

    def __init__(self, host: str, *, server: str, session: str, **options: Any) -> None:
        self._server = server
        self._session = session
        self._when_lost: Callable[[WebsocketSide], None] | None = None
        self._has_carried = False
        super().__init__(host, open_loop_horizon=0, **options)
        self._made = time.monotonic()

    def named(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation with the session, which over QUIC the hello says."""
        supports = self.get_server_metadata().get("supports")
        is_read = isinstance(supports, list) and "session" in supports
        if is_read and "session" not in observation:
            return {**observation, "session": self._session}
        return observation

    def when_lost(self, tell: Callable[[WebsocketSide], None]) -> None:
        """Has `tell` called when the connection is gone, on the thread that finds it so."""
        self._when_lost = tell

    def begin(
        self, observation: dict[str, Any], timeout: float | None, first: FirstActions | None
    ) -> tuple[InferenceFuture, Callable[[], dict[str, Any]]]:
        """As `submit`; also returns what makes the observation again after `NotBegun`."""
        named = self.named(observation)
        ask = self._pack(named, timeout)
        added = {"session", DEADLINE_KEY} - observation.keys()

        def take_back() -> dict[str, Any]:
            packed = unpackb(ask.request)
            return {key: value for key, value in packed.items() if key not in added}

        return self._enqueue(ask, named.get("session"), None, first), take_back

    def give_way(self, observation: dict[str, Any]) -> None:
        """Ends the submitted request of a session that waits: this newer one goes over QUIC."""
        session = self.named(observation).get("session")
        self._queue.supersede(session if isinstance(session, str) else "")

    def _usable_connection(self, ask: Ask) -> Connection:
        if self._when_lost is None:
            return super()._usable_connection(ask)
        connection = self._connection
        if connection is not None and connection.is_quiet:
            self._has_carried = True
            return connection
        if connection is not None:
            self._drop_connection()
            if not self._has_carried and time.monotonic() - self._made < AT_ONCE_S:
                raise Disconnected(f"{self._target} ended the connection as soon as it was there")
        raise self._not_sent(self._dialer)

    def _drop_connection(self) -> None:
        super()._drop_connection()
        if self._when_lost is not None:
            self._when_lost(self)

    def _pause(self, seconds: float) -> None:
        try:
            super()._pause(seconds)
        except Disconnected:
            raise self._not_sent(self._dialer) from None

    @staticmethod
    def _not_sent(dialer: Dialer) -> NotBegun:
        return NotBegun(f"the connection to {dialer.target} was lost")

    def _verified_by(self, trust: TlsTrust) -> TlsTrust:
        return dataclasses.replace(trust, known_as=self._server, accepts_any=trust.is_default)


def open_websocket(
    fallback: Fallback,
    *,
    trust: dict[str, Any],
    server: str,
    session: str,
    api_key: str | None,
    connect_timeout: float,
    had_no_tls: bool = False,
) -> WebsocketSide:
    """Connects over TLS, or without where the server has none and that is allowed.

    Args:
        fallback: the ways.
        trust: `server_fingerprint`, `ca_file` and `known_servers`.
        server: as known servers know it.
        session: of the requests that name none.
        api_key: of the server.
        connect_timeout: seconds.
        had_no_tls: the server had none when it was connected to just before.

    Raises:
        FlashTransportError: there is no connection.
    """
    common: dict[str, Any] = {
        "server": server,
        "session": session,
        "api_key": api_key,
        "connect_timeout": connect_timeout,
    }
    if had_no_tls and fallback.plain is not None:
        return WebsocketSide(fallback.plain, **common)
    try:
        return WebsocketSide(fallback.encrypted, **trust, **common)
    except NoTls as error:
        if fallback.plain is None:
            raise Disconnected(
                f"{error}; without encryption {fallback.why_not_plain}, so that is done only with "
                "insecure_fallback"
            ) from None
    return WebsocketSide(fallback.plain, **common)

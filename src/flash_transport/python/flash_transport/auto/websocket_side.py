"""WebSocket for a client that chooses: over TLS with the trust of QUIC, else only where allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

from flash_transport.auto.fallback import Fallback
from flash_transport.errors import Disconnected
from flash_transport.first_actions import FirstActions
from flash_transport.futures import InferenceFuture
from flash_transport.websocket.failures import NoTls
from flash_transport.websocket.policy import WebsocketPolicy
from flash_transport.websocket.trust import TlsTrust

__all__ = ["WebsocketSide", "open_websocket"]


class WebsocketSide(WebsocketPolicy):
    """A `WebsocketPolicy` that verifies its server as QUIC verifies it.

    Args:
        server: as known servers know it.
        session: of the requests that name none.
        host, options: of `WebsocketPolicy`.
    """

    def __init__(self, host: str, *, server: str, session: str, **options: Any) -> None:
        self._server = server
        self._session = session
        super().__init__(host, open_loop_horizon=0, **options)

    def named(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation with the session, which over QUIC the hello says."""
        supports = self.get_server_metadata().get("supports")
        is_read = isinstance(supports, list) and "session" in supports
        if is_read and "session" not in observation:
            return {**observation, "session": self._session}
        return observation

    def begin(
        self, observation: dict[str, Any], timeout: float | None, first: FirstActions | None
    ) -> tuple[InferenceFuture, None]:
        """As `submit`; what it did not begin cannot be taken back."""
        return self._submit(observation, timeout, None, first), None

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
) -> WebsocketSide:
    """Connects over TLS, or without where the server has none and that is allowed.

    Args:
        fallback: the ways.
        trust: `server_fingerprint`, `ca_file` and `known_servers`.
        server: as known servers know it.
        session: of the requests that name none.
        api_key: of the server.
        connect_timeout: seconds.

    Raises:
        FlashTransportError: there is no connection.
    """
    common: dict[str, Any] = {
        "server": server,
        "session": session,
        "api_key": api_key,
        "connect_timeout": connect_timeout,
    }
    try:
        return WebsocketSide(fallback.encrypted, **trust, **common)
    except NoTls as error:
        if fallback.plain is None:
            raise Disconnected(
                f"{error}; without encryption {fallback.why_not_plain}, so that is done only with "
                "insecure_fallback"
            ) from None
    return WebsocketSide(fallback.plain, **common)

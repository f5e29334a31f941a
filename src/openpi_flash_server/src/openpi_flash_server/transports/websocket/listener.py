"""The WebSocket port of a slot.

`flash_transport` listens, checks keys, and speaks openpi's protocol. Connections of the session API
are passed to `SessionListener`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flash_transport import WebsocketServer
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.certificate import (
    KeptCertificate,
    OwnCertificate,
    certificate_errors,
)
from openpi_flash_server.transports.client_events import ClientListener
from openpi_flash_server.transports.native_transport import NativeTransport
from openpi_flash_server.transports.websocket.positronic_protocol import (
    LINK,
    PositronicSessions,
)
from openpi_flash_server.transports.websocket.session_listener import SessionListener

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""As on QUIC; three raw 1080p cameras are 19 MB. A larger one closes its connection with 1009."""

PING_INTERVAL = 20.0
"""s, as websockets': less than what routers forget a quiet connection after."""

LONGEST_SILENCE = 900.0
"""s. A client in Python answers no ping while a simulator holds its interpreter: a reset may take
minutes. A robot that is gone costs a session's memory until then."""


class WebsocketTransport(NativeTransport):
    """The WebSocket end of a slot.

    Args:
        slot: answers the requests.
        host: the address to listen on.
        port: 0 lets the system choose.
        certificate: for clients with `wss://`; None takes `ws://` only.
        api_keys: keys of the clients; empty lets everybody in.
        expose_tracebacks: whether openpi's clients get the server's traceback.
        listeners: are told of its clients, besides the log.
        ping_interval: s between two pings, which keep a quiet connection open.
        longest_silence: s that a client may send nothing, not even the answer to a ping.

    Attributes:
        port: where it listens.
        sessions: answers the paths below `/api/v1/`.

    Raises:
        OSError: the port cannot be listened on.
        CertificateError: the certificate cannot be kept or read.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        host: str,
        port: int,
        certificate: KeptCertificate | OwnCertificate | None = None,
        api_keys: Sequence[str] = (),
        expose_tracebacks: bool = True,
        listeners: Sequence[ClientListener] = (),
        ping_interval: float = PING_INTERVAL,
        longest_silence: float = LONGEST_SILENCE,
    ) -> None:
        self._published = False
        self.sessions = SessionListener(
            slot,
            listeners=listeners,
            max_message_bytes=MAX_MESSAGE_BYTES,
            ping_interval=ping_interval,
            longest_silence=longest_silence,
        )
        try:
            with certificate_errors():
                server = WebsocketServer(
                    host,
                    port,
                    readiness=lambda: (slot.not_ready_because, slot.unhealthy_because),
                    sessions_socket=self.sessions.path,
                    api_keys=list(api_keys),
                    max_message_bytes=MAX_MESSAGE_BYTES,
                    expose_tracebacks=expose_tracebacks,
                    ping_interval=ping_interval,
                    longest_silence=longest_silence,
                    **({} if certificate is None else certificate.arguments),
                )
        except BaseException:
            self.sessions.close(grace=0)
            raise
        self.port: int = server.port
        self.sessions.protocol.port = server.port
        self._server = server
        super().__init__(slot, server, link=LINK, listeners=listeners, sends_first_actions=False)

    @property
    def links(self) -> dict[str, dict[str, float]]:
        """Round trip of each connection by the client's name, from its last ping, if it had one."""
        return {**self._server.links, **self.sessions.links}

    @property
    def unpublished_because(self) -> str | None:
        """Why clients wait; None if they do not."""
        return None if self._published else "starting"

    @property
    def waiting_clients(self) -> int:
        """How many clients wait for `publish`."""
        return self._server.waiting_clients

    def hold_sessions(self, sessions: PositronicSessions) -> None:
        """Answers Positronic's clients, too; without it they are refused."""
        self.sessions.protocol.sessions = sessions

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Lets clients in: the slot is open."""
        super().publish(metadata)
        self.sessions.protocol.publish()
        self._published = True

    def close(self, *, grace: float) -> bool:
        """Sends pending answers, for at most `grace` s, then closes every connection.

        Returns:
            Whether all were sent.
        """
        sessions_sent = self.sessions.close(grace=grace)
        return super().close(grace=grace) and sessions_sent

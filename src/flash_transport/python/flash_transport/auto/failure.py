"""Why there is no connection, by each transport, and what a request is told of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flash_transport.deadline import Deadline
from flash_transport.errors import (
    AuthenticationFailed,
    Disconnected,
    ServerError,
    UntrustedServer,
)

__all__ = ["Failure", "is_final"]


@dataclass(frozen=True)
class Failure:
    """Why there is no connection.

    Attributes:
        error: what a request is told, in place of the reasons.
        finals: how many errors there were after which no attempt is made for those who wait.
        quic: the reason of QUIC.
        websocket: the reason of WebSocket.
    """

    error: Exception | None = None
    finals: int = 0
    quic: str = ""
    websocket: str = ""

    def of_quic(self, reason: str, error: Exception | None) -> Failure:
        """With why QUIC has no connection, and the error that says more than that, if any."""
        kept = error if is_final(error) or isinstance(error, ServerError) else None
        return replace(self, error=kept, finals=self.finals + is_final(error), quic=reason)

    def of_websocket(self, error: Exception | None) -> Failure:
        """With why WebSocket has no connection."""
        is_kept = is_final(error) or isinstance(error, ServerError)
        kept = error if is_kept and self.error is None else self.error
        return replace(self, error=kept, finals=self.finals + is_final(error), websocket=str(error))

    def unreachable(self, server: str, until: Deadline, quic_trouble: str) -> Exception:
        """The error of a request for which there was no connection in time."""
        if isinstance(self.error, ServerError):
            return self.error
        return Disconnected(
            f"cannot connect to {server} within {until}: {self.troubles(quic_trouble)}"
        )

    def troubles(self, quic_trouble: str) -> str:
        """The reasons, for people.

        Args:
            quic_trouble: a later one of QUIC, if any.
        """
        return (
            f"QUIC: {quic_trouble or self.quic}; WebSocket: {self.websocket or 'not tried yet'}; "
            "check that the server runs, and that UDP or TCP is let through"
        )


def is_final(error: Exception | None) -> bool:
    """Whether another attempt would end in the same."""
    return isinstance(error, (AuthenticationFailed, UntrustedServer))

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
        final: the last error after which no attempt is made for those who wait: they are told it.
        finals: how many of these there were.
        refusal: what the server said, if it was there and not ready: told in place of the reasons.
        quic: the reason of QUIC.
        websocket: the reason of WebSocket.
    """

    final: Exception | None = None
    finals: int = 0
    refusal: ServerError | None = None
    quic: str = ""
    websocket: str = ""

    def of_quic(self, reason: str, error: Exception | None) -> Failure:
        """With why QUIC has no connection, and the error that says more than that, if any."""
        refusal = error if isinstance(error, ServerError) else None
        return replace(self._with_final(error), refusal=refusal, quic=reason)

    def of_websocket(self, error: Exception) -> Failure:
        """With why WebSocket has no connection."""
        refusal = error if isinstance(error, ServerError) else None
        return replace(
            self._with_final(error), refusal=self.refusal or refusal, websocket=str(error)
        )

    def unreachable(self, server: str, until: Deadline, quic_trouble: str) -> Exception:
        """The error of a request for which there was no connection in time."""
        if self.refusal is not None:
            return self.refusal
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

    def _with_final(self, error: Exception | None) -> Failure:
        # a later failure of the other transport does not take its place: it has yet to be told
        return replace(self, final=error, finals=self.finals + 1) if is_final(error) else self


def is_final(error: Exception | None) -> bool:
    """Whether another attempt would end in the same."""
    return isinstance(error, (AuthenticationFailed, UntrustedServer))

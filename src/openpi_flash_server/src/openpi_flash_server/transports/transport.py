"""What an endpoint needs of a transport, whatever its link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Transport(Protocol):
    """Takes requests from clients to a slot, and the answers back.

    It listens from its construction on; until `publish` its clients wait.
    """

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Lets clients in: the slot is open. Called again, it replaces the metadata."""

    def stop_accepting(self) -> None:
        """Refuses new requests; accepted ones go on."""

    def close(self, *, grace: float) -> bool:
        """Closes every connection once its answers have been sent, or after `grace` s.

        Returns:
            Whether every accepted request was answered in time.
        """

"""Which slot answers a connection. Pure."""

from __future__ import annotations

from openpi_flash_server.slot.slot import Slot


class Router:
    """The slots of one port, by path and session.

    Args:
        default: answers every path that no other slot has: openpi's clients may ask for any.
    """

    def __init__(self, default: Slot) -> None:
        self._default = default
        self._slots: dict[tuple[str, str], Slot] = {}

    def add(self, path: str, slot: Slot, *, session: str = "") -> None:
        """Sends the connections of a path, or of one session there, to `slot`."""
        self._slots[path, session] = slot

    def slot(self, path: str, session: str = "") -> Slot:
        """The slot for a connection.

        Args:
            path: of the request that opens it, without a query.
            session: that it names; empty for none.
        """
        for key in ((path, session), (path, "")):
            if key in self._slots:
                return self._slots[key]
        return self._default

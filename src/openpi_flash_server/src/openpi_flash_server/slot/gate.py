"""What a slot asks before a request may run: whether it has to wait for something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.ticket import Ticket


@dataclass(frozen=True, slots=True)
class Admission:
    """What a gate decides about a request.

    Attributes:
        held_until: when it may run even if the slot does not release it before, monotonic s; None:
            at once.
        begin: called once it waits in the slot, without the slot's lock; None if there is nothing
            to do.
    """

    held_until: float | None = None
    begin: Callable[[], None] | None = None


class Gate(Protocol):
    """Holds requests back. All are called with the slot's lock: they must not call the slot."""

    def attach(self, release: Callable[[Session], None]) -> None:
        """It guards a slot from now on, whose waiting request of a session `release` lets run."""

    def admit(self, ticket: Ticket, now: float) -> Admission:
        """Decides about a request that has just come."""

    def forget(self, session: Session) -> None:
        """The session ended or starts anew."""

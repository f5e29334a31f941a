"""What is known of the server: whether it is connected, and whether it fits this robot."""

from __future__ import annotations

from openpi_flash_robot.bridge.chunk_description import ChunkDescription, describe
from openpi_flash_robot.bridge.status import Cause, Condition, State
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.events import LinkDown, LinkUp, TransportUsed
from openpi_flash_robot.nanoseconds import SECOND
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.server_contract import (
    Agreement,
    ContractError,
    agree,
    parse_contract,
)

RECHECK_NS = 2 * SECOND
"""How often a server that does not fit is asked again for its metadata."""


class ServerState:
    """Follows the link's reports.

    Attributes:
        agreement: what server and robot have settled on; None without a connection, and while the
            server does not fit this robot.
        description: of the chunks of the last agreement; None before the first.
        fault: what a person has to repair; empty if nothing.
        transport: what carries requests, where the link chooses.
        connections: how often a server was connected, or sent other metadata.
    """

    def __init__(self, server: str) -> None:
        """Start unconnected.

        Args:
            server: its address, for messages.
        """
        self.agreement: Agreement | None = None
        self.description: ChunkDescription | None = None
        self.fault = ""
        self.transport: TransportUsed | None = None
        self.connections = 0
        self._trouble: Condition | None = Condition(
            State.CONNECTING, Cause.LINK, f"connecting to {server}"
        )
        self._recheck_at_ns: int | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to a server."""
        return self._trouble is None

    @property
    def condition(self) -> Condition | None:
        """The condition while the server keeps the robot from moving; else None."""
        if self.fault:
            return Condition(State.FAULT, Cause.MISMATCH, self.fault)
        return self._trouble

    def connect(self, now: int, event: LinkUp, settings: NodeSettings) -> Hold | None:
        """Take the server's metadata; the reason to hold if it does not fit this robot."""
        self.connections += 1
        self._trouble = None
        self.fault, self._recheck_at_ns = "", None
        try:
            self.agreement = agree(parse_contract(event.metadata), settings)
            self.description = describe(settings.axes, self.agreement)
        except ContractError as error:
            self.agreement, self.fault = None, str(error)
            self._recheck_at_ns = now + RECHECK_NS
            return Hold(HoldKind.LINK, str(error))
        return None

    def disconnect(self, event: LinkDown) -> Hold:
        """Take the loss of the connection; the reason to hold."""
        self._trouble = Condition(State.DISCONNECTED, Cause.LINK, event.message)
        self.fault = event.message if event.needs_human else ""
        self.agreement = self._recheck_at_ns = None
        return Hold(HoldKind.LINK, event.message)

    def take_recheck(self, now: int) -> bool:
        """Whether a server that does not fit is to be asked again; true once for each pause."""
        if self._recheck_at_ns is None:
            return False
        # a pause longer than RECHECK_NS: the clock was set back
        if 0 < self._recheck_at_ns - now <= RECHECK_NS:
            return False
        self._recheck_at_ns = None
        return True

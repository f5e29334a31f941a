"""A unix socket in front of a slot, for clients on the same computer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flash_transport import LocalServer
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.client_events import ClientListener
from openpi_flash_server.transports.native_transport import NativeTransport


class LocalTransport(NativeTransport):
    """The unix socket of a slot.

    Args:
        slot: answers the requests.
        path: the socket's file. Only processes of the server's user may connect.
        api_keys: keys of the clients; if empty, only the file's permissions decide.
        listeners: are told of its clients, besides the log.

    Attributes:
        path: where it listens.

    Raises:
        OSError: another server listens there, or the file cannot be made.
        ValueError: the path is too long for a socket.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        path: Path,
        api_keys: Sequence[str] = (),
        listeners: Sequence[ClientListener] = (),
    ) -> None:
        server = LocalServer(path, api_keys=list(api_keys))
        self.path: Path = server.path
        super().__init__(slot, server, link="unix socket", listeners=listeners)

"""A unix socket in front of a slot, for policies' clients on the same computer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flash_transport import LocalServer
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.request_pump import RequestPump


class LocalTransport:
    """The unix socket of a slot.

    It listens from the constructor on. Until `publish` it tells clients that it is not ready, and
    they wait: hello carries the metadata, which only a loaded model has.

    Args:
        slot: answers the requests.
        path: the socket's file. Only processes of the server's user may reach it.
        api_keys: who may connect; empty lets in whom the file's permissions let in.

    Attributes:
        path: where it listens.

    Raises:
        OSError: another server listens there, or nobody can.
        ValueError: the path is too long for a socket.
    """

    def __init__(self, slot: Slot, *, path: Path, api_keys: Sequence[str] = ()) -> None:
        self._server = LocalServer(path, api_keys=list(api_keys))
        self.path: Path = self._server.path
        self._pump = RequestPump(slot, self._server, link="unix socket")

    def publish(self, metadata: Mapping[str, Any]) -> None:
        """Lets clients in: the slot is open."""
        self._server.set_metadata(dict(metadata))

    def stop_accepting(self) -> None:
        """Tells clients from now on that the server shuts down; what was accepted goes on."""
        self._server.stop_accepting()

    def close(self, *, grace: float) -> bool:
        """Closes every connection once its answers have been sent, or after `grace` s.

        Returns:
            Whether everything that was accepted is answered.
        """
        finished = self._server.drain(grace)
        self._pump.join()
        return finished

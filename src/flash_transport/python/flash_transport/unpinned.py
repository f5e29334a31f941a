"""Tells users once that a server is not authenticated."""

from __future__ import annotations

import logging
import threading

__all__ = ["warn_unpinned"]

_LOGGER = logging.getLogger("flash_transport")
_LOCK = threading.Lock()
_WARNED: set[str] = set()


def warn_unpinned(server: str, fingerprint: str) -> None:
    """Warns that nothing tells `server` from an impostor, once in a process and for each server.

    Args:
        server: `host:port`, as the user named it.
        fingerprint: SHA-256 of the certificate that it showed.
    """
    with _LOCK:
        if server in _WARNED:
            return
        _WARNED.add(server)
    _LOGGER.warning(
        "server %s is not authenticated: anybody on the network path could impersonate it. "
        "Compare its fingerprint with the one that the server printed and pass it: "
        'server_fingerprint="%s"',
        server,
        fingerprint,
    )

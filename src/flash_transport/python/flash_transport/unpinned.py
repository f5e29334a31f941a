"""Tells users once that a server is not authenticated."""

from __future__ import annotations

import logging
import threading

__all__ = ["warn_unpinned"]

_LOGGER = logging.getLogger("flash_transport")
_LOCK = threading.Lock()
_WARNED: set[str] = set()


def warn_unpinned(server: str, fingerprint: str | None = None) -> None:
    """Warns that `server` is not authenticated, once per process and server.

    Args:
        server: `host:port`, as the user named it.
        fingerprint: SHA-256 of the certificate that it showed, where that is known.
    """
    with _LOCK:
        if server in _WARNED:
            return
        _WARNED.add(server)
    what_to_do = (
        "Pass the fingerprint that the server printed at its start as server_fingerprint"
        if fingerprint is None
        else f"Compare its fingerprint {fingerprint} with the one that the server printed at its "
        "start, and pass that as server_fingerprint"
    )
    _LOGGER.warning(
        "server %s is not authenticated: an attacker on the network path could impersonate it. %s",
        server,
        what_to_do,
    )

"""The error of a request that a connection did not carry: it may be sent another way."""

from __future__ import annotations

from flash_transport.errors import Disconnected

__all__ = ["NotBegun"]


class NotBegun(Disconnected):
    """There is no connection, or it ended before the server had begun the request."""

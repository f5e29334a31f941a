"""The client that sent a request, as its transport names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """One connection. Clients at the same address share the device's time as one.

    Attributes:
        name: unique among all connections: `ip:port#connection`, or `pid=…,uid=…#connection`.
        address: the computer or, on a unix socket, the user.
    """

    name: str
    address: str

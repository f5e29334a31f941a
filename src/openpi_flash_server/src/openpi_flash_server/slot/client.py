"""The client that sent a request, as its transport names it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Client:
    """One connection.

    Clients with one key share the device's time as one, and so do those of them at one address.

    Attributes:
        name: unique among all connections: `ip:port#connection`, or `pid=…,uid=…#connection`.
        address: the computer or, on a unix socket, the user.
        key: which of the server's API keys it gave, by its place in the list; 0 where there is one
            or none. Clients with other keys cannot use its sessions.
    """

    name: str
    address: str
    key: int = field(default=0, compare=False)

"""The client that sent a request, as its transport names it."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Client:
    """One connection.

    Clients with one key share the device's time as one, and so do those of them in one network.

    Attributes:
        name: unique among all connections: `ip:port#connection`, or `pid=…,uid=…#connection`.
        address: the computer or, on a unix socket, the user.
        key: which of the server's API keys it gave, by its place in the list; 0 where there is one
            or none. Clients with other keys cannot use its sessions.
    """

    name: str
    address: str
    key: int = field(default=0, compare=False)

    @property
    def network(self) -> str:
        """The address, or the /64 of an IPv6 address: its owner has 2^64 of them."""
        return _network_of(self.address)


@functools.lru_cache(maxsize=1024)
def _network_of(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    # a user of a unix socket
    except ValueError:
        return address
    if found.version == 4:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))

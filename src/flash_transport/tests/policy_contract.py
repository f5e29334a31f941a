"""The transports that keep the contract of `Policy`, each with a server whose requests look alike.

A new transport is one more entry of `TRANSPORTS`: a function that starts a server which gives each
request to `handle`, and hands out an `Endpoint`. What a request must offer is what `QuicRequest`
offers: `observation`, `cancelled`, `respond(result)`, `fail(code, message)`.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from quic_peers import Served, free_udp_port

from flash_transport import FlashTransportPolicy, Policy

Handle = Callable[[Any], None]


@dataclass(frozen=True)
class Endpoint:
    """A server that runs.

    Attributes:
        connect: makes a client of it; takes the options that all clients take.
        stop: ends it, as a shutdown does.
    """

    connect: Callable[..., Policy]
    stop: Callable[[], None]


@dataclass(frozen=True)
class Transport:
    """A way to a policy.

    Attributes:
        name: for people.
        serve: `serve(handle, metadata, address)`; `address` is what `free_address` gave.
        free_address: somewhere to serve, the same after a restart.
        overhead: bytes of a request and of an answer beyond the packed map.
    """

    name: str
    serve: Callable[[Handle, dict[str, Any], Any], AbstractContextManager[Endpoint]]
    free_address: Callable[[], Any]
    overhead: int


@contextlib.contextmanager
def serve_quic(handle: Handle, metadata: dict[str, Any], port: int) -> Iterator[Endpoint]:
    with Served(handle, metadata=metadata, port=port) as served:

        def connect(**options: Any) -> Policy:
            return FlashTransportPolicy("127.0.0.1", served.port, **options)

        yield Endpoint(connect, served.server.close)


TRANSPORTS = [
    Transport("quic", serve_quic, free_udp_port, overhead=1),
]

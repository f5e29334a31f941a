"""The transports that keep the contract of `Policy`, each with a server whose requests look alike.

A new transport is one more entry of `TRANSPORTS`: a function that starts a server which gives
each request to `handle`, and hands out an `Endpoint`. What a request must offer is what
`TransportRequest` offers: `observation`, `cancelled`, `respond(result)`, `fail(code, message)`.
"""

import contextlib
import functools
import socket
import ssl
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quic_peers import Served, Serving, free_udp_port
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from flash_transport import (
    AutoTransportPolicy,
    FlashTransportPolicy,
    LocalServer,
    Policy,
    WebsocketPolicy,
    aio,
    packb,
    unpackb,
)

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
        serve: `serve(handle, metadata, address, api_keys)`; `address` is what `free_address` gave.
        free_address: somewhere to serve, the same after a restart.
        overhead: bytes of a request and of an answer beyond the packed map.
        has_first_actions: whether first actions come ahead of an answer.
        connects_ahead: whether it connects again before a request asks for that.
    """

    name: str
    serve: Callable[[Handle, dict[str, Any], Any, list[str]], AbstractContextManager[Endpoint]]
    free_address: Callable[[], Any]
    overhead: int
    has_first_actions: bool = True
    connects_ahead: bool = False


@contextlib.contextmanager
def serve_quic(
    handle: Handle,
    metadata: dict[str, Any],
    port: int,
    api_keys: list[str],
    *,
    client: Callable[..., Policy] = FlashTransportPolicy,
) -> Iterator[Endpoint]:
    with Served(handle, metadata=metadata, port=port, api_keys=api_keys) as served:

        def connect(**options: Any) -> Policy:
            return client("127.0.0.1", served.port, **options)

        yield Endpoint(connect, served.server.close)


@contextlib.contextmanager
def serve_local(
    handle: Handle, metadata: dict[str, Any], path: Path, api_keys: list[str]
) -> Iterator[Endpoint]:
    with Serving(LocalServer(path, metadata=metadata, api_keys=api_keys), handle) as serving:

        def connect(**options: Any) -> Policy:
            return FlashTransportPolicy(f"unix:{path}", **options)

        yield Endpoint(connect, serving.server.close)


def fresh_socket_path() -> Path:
    # pytest's own folders are too deep for the path of a socket
    return Path(tempfile.gettempdir()) / f"flash-{uuid.uuid4().hex}.sock"


class WebsocketRequest:
    """A request of our WebSocket server, to be answered once from any thread."""

    def __init__(self, observation: dict[str, Any], connection: ServerConnection) -> None:
        self.observation = observation
        self.answered = threading.Event()
        self.cancelled = False
        self._connection = connection

    def respond(self, result: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            self._connection.send(packb(result))
        self.answered.set()

    def fail(self, code: str, message: str) -> None:
        self.respond({"error": {"code": code, "message": message}})


@contextlib.contextmanager
def serve_websocket(
    handle: Handle,
    metadata: dict[str, Any],
    port: int,
    api_keys: list[str],
    *,
    tls: ssl.SSLContext | None = None,
    client: Callable[[int], Callable[..., Policy]] | None = None,
) -> Iterator[Endpoint]:
    connections: list[ServerConnection] = []

    def talk(connection: ServerConnection) -> None:
        connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            connection.send(packb(metadata))
            while True:
                request = WebsocketRequest(unpackb(connection.recv()), connection)
                handle(request)
                while not request.answered.wait(0.005):
                    with contextlib.suppress(TimeoutError):
                        try:
                            assert connection.recv(timeout=0) is None, "spoke out of turn"
                        except ConnectionClosed:
                            request.cancelled = True
                            raise

    def choose_ours(_connection: ServerConnection, offered: Any) -> Any:
        return "openpi-flash.1" if "openpi-flash.1" in offered else None

    def check_key(connection: ServerConnection, request: Request) -> Response | None:
        key = request.headers.get("Authorization", "").removeprefix("Api-Key ")
        return connection.respond(401, "no such key") if api_keys and key not in api_keys else None

    server = serve(
        talk,
        "127.0.0.1",
        port,
        compression=None,
        max_size=None,
        ssl=tls,
        select_subprotocol=choose_ours,
        process_request=check_key,
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def connect(**options: Any) -> Policy:
        if client is not None:
            return client(port)(**options)
        return WebsocketPolicy("127.0.0.1", port, **options)

    try:
        yield Endpoint(connect, stop)
    finally:
        stop()


def free_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def only_websocket(port: int) -> Callable[..., Policy]:
    """A client that chooses, of a server whose UDP port nobody has open."""
    return functools.partial(AutoTransportPolicy, "127.0.0.1", free_udp_port(), websocket_port=port)


TRANSPORTS = [
    Transport("quic", serve_quic, free_udp_port, overhead=1),
    Transport("unix", serve_local, fresh_socket_path, overhead=1),
    Transport("websocket", serve_websocket, free_tcp_port, overhead=0, has_first_actions=False),
    Transport(
        "aioquic",
        functools.partial(serve_quic, client=aio.FlashTransportPolicy),
        free_udp_port,
        overhead=1,
    ),
    Transport(
        "auto, quic",
        functools.partial(serve_quic, client=AutoTransportPolicy),
        free_udp_port,
        overhead=1,
        connects_ahead=True,
    ),
    Transport(
        "auto, websocket",
        functools.partial(serve_websocket, client=only_websocket),
        free_tcp_port,
        overhead=0,
        has_first_actions=False,
        connects_ahead=True,
    ),
]

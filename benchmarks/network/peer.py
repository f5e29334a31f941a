"""One end of an arm of the network benchmark.

usage: python benchmarks/network/peer.py CONGESTION serve-websocket|serve-quic ADDRESS
       python benchmarks/network/peer.py CONGESTION ask-websocket|ask-quic ADDRESS PORT

CONGESTION is the controller of its TCP sockets, cubic or bbr.

A server answers at once with a fixed chunk, and prints its port. A client reads words: for `infer`
it sends one observation, for `connect` it makes a new connection first; it prints the seconds.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from openpi_protocol_server import ACTIONS, answer_requests
from transport_client import make_observation


def use_congestion_control(name: str) -> None:
    """Has each TCP socket of this process use it; not all can be a namespace's default."""

    class Socket(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.type == socket.SOCK_STREAM and self.family == socket.AF_INET:
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())

    socket.socket = Socket  # type: ignore[misc]


async def serve_websocket(address: str) -> None:
    """What openpi's own server does, until killed."""
    from websockets.asyncio.server import serve

    async with serve(answer_requests, address, 0, compression=None, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


def serve_quic(address: str) -> None:
    """Our QUIC server with the same policy, until killed."""
    from flash_transport import QuicServer

    server = QuicServer(address, 0, metadata={})
    print(server.port, flush=True)
    while (request := server.next_request()) is not None:
        assert "prompt" in request.observation
        request.respond({"actions": ACTIONS, "policy_timing": {"infer_ms": 0.0}})


def connect(kind: str, address: str, port: int) -> Any:
    """A connected policy of the given kind."""
    if kind == "ask-websocket":
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        return WebsocketClientPolicy(address, port)
    from flash_transport import FlashTransportPolicy

    return FlashTransportPolicy(address, port)


def ask(kind: str, address: str, port: int) -> None:
    """Answers each word with one timed request."""
    observation = make_observation(cameras=3)
    policy: Any = None
    for line in sys.stdin:
        started = time.perf_counter()
        if policy is None or line.strip() == "connect":
            old, policy = policy, connect(kind, address, port)
        result = policy.infer(observation)
        elapsed = time.perf_counter() - started
        if result["actions"].shape != ACTIONS.shape:
            raise SystemExit(f"wrong answer: {result}")
        print(elapsed, flush=True)
        if line.strip() == "connect" and old is not None:
            (old.close if kind == "ask-quic" else old._ws.close)()


def main() -> None:
    """Be what the first argument says."""
    use_congestion_control(sys.argv[1])
    role, address = sys.argv[2], sys.argv[3]
    if role == "serve-websocket":
        asyncio.run(serve_websocket(address))
    elif role == "serve-quic":
        serve_quic(address)
    else:
        ask(role, address, int(sys.argv[4]))


if __name__ == "__main__":
    main()

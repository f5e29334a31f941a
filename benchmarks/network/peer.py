"""One end of an arm of the network benchmark.

usage: python benchmarks/network/peer.py CONGESTION serve-websocket|serve-quic ADDRESS
       python benchmarks/network/peer.py CONGESTION ask-websocket|ask-quic ADDRESS PORT
       python benchmarks/network/peer.py CONGESTION ask-quic ADDRESS PORT raw|jpeg|auto

With an `image_encoding` the client sends photographs instead of noise.

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
    from flash_transport import QuicServer, decode_image

    server = QuicServer(address, 0, metadata={"supports": ["jpeg"]})
    print(server.port, flush=True)
    while (request := server.next_request()) is not None:
        observation = request.observation
        assert "prompt" in observation
        for value in observation.values():
            if isinstance(value, dict) and "__image__" in value:
                decode_image(value["data"])
        request.respond({"actions": ACTIONS, "policy_timing": {"infer_ms": 0.0}})


def photographs() -> dict[str, Any]:
    """The observation with a photograph and two parts of it in place of noise."""
    import numpy as np
    from matplotlib import cbook
    from PIL import Image

    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    photo = Image.open(str(path)).convert("RGB")
    parts = (None, (80, 50, 420, 350), (200, 200, 500, 500))
    images = [np.asarray(photo.resize((224, 224), box=box)) for box in parts]
    observation = make_observation(cameras=3)
    return observation | {f"observation/image_{i}": image for i, image in enumerate(images)}


def connect(kind: str, address: str, port: int, images: Any) -> Any:
    """A connected policy of the given kind."""
    if kind == "ask-websocket":
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        return WebsocketClientPolicy(address, port)
    from flash_transport import FlashTransportPolicy

    if not images:
        return FlashTransportPolicy(address, port)
    policy = FlashTransportPolicy(address, port, image_encoding=images)
    policy.get_server_metadata()  # whether the server reads JPEG, before the first request
    return policy


def ask(kind: str, address: str, port: int, images: str) -> None:
    """Answers each word with one timed request."""
    observation = photographs() if images else make_observation(cameras=3)
    policy: Any = None
    for line in sys.stdin:
        started = time.perf_counter()
        if policy is None or line.strip() == "connect":
            old, policy = policy, connect(kind, address, port, images)
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
        ask(role, address, int(sys.argv[4]), *(sys.argv[5:] or [""]))


if __name__ == "__main__":
    main()

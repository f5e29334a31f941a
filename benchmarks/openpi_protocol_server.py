"""The peer's side of the transport benchmark: a server that does what openpi's own does.

One process, one event loop, metadata first, inference on the loop, openpi-client's own codec.
The policy answers at once with a fixed chunk, so that only the transport is measured.

usage: python benchmarks/openpi_protocol_server.py   (prints the port it listens on)
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
from openpi_client import msgpack_numpy
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

ACTIONS = np.linspace(-1.0, 1.0, 50 * 32, dtype=np.float32).reshape(50, 32)


async def answer_requests(connection: ServerConnection) -> None:
    """Serve one client until it leaves."""
    packer = msgpack_numpy.Packer()
    await connection.send(packer.pack({}))
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            started = time.monotonic()
            msgpack_numpy.unpackb(message)
            result = {"actions": ACTIONS, "policy_timing": {"infer_ms": 0.0}}
            result["server_timing"] = {"infer_ms": (time.monotonic() - started) * 1000}
            await connection.send(packer.pack(result))


async def main() -> None:
    """Listen on a free port of loopback until killed."""
    async with serve(answer_requests, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

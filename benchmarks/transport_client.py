"""One client process of the transport benchmark: a request for each line on standard input.

usage: python benchmarks/transport_client.py openpi-client|quic|unix|hebbian PORT-OR-PATH CAMERAS
For every line it reads, it sends the same observation, checks the answer, and prints the
round trip in nanoseconds. At the end of input it leaves.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import numpy as np


def make_observation(cameras: int) -> dict[str, Any]:
    """Three cameras of 224x224x3 make 452 KB, the size of a usual pi0.5 request."""
    rng = np.random.default_rng(0)
    observation: dict[str, Any] = {
        f"observation/image_{i}": rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        for i in range(cameras)
    }
    observation["observation/state"] = rng.standard_normal(14).astype(np.float32)
    observation["prompt"] = "pick up the red cube and put it in the bowl"
    return observation


def connect(kind: str, address: str) -> Any:
    """Return a connected policy of the given kind."""
    if kind == "openpi-client":
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        return WebsocketClientPolicy("127.0.0.1", int(address))
    if kind == "quic":
        from flash_transport import FlashTransportPolicy

        return FlashTransportPolicy("127.0.0.1", int(address))
    if kind == "unix":
        from flash_transport import FlashTransportPolicy

        return FlashTransportPolicy(f"unix:{address}")
    if kind == "hebbian":
        from openpi_flash_client import FlashTransportPolicy as HebbianPolicy  # type: ignore

        return HebbianPolicy("127.0.0.1", int(address), local_port=free_udp_port())
    raise SystemExit(f"unknown client '{kind}', expected openpi-client, quic, unix or hebbian")


def free_udp_port() -> int:
    """Return a port that nobody is bound to, for the peer's client, which binds a fixed one."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Answer each input line with one timed request."""
    kind, address, cameras = sys.argv[1], sys.argv[2], int(sys.argv[3])
    policy = connect(kind, address)
    observation = make_observation(cameras)
    for _ in sys.stdin:
        started = time.perf_counter_ns()
        result = policy.infer(observation)
        elapsed = time.perf_counter_ns() - started
        if result["actions"].shape != (50, 32) or result["actions"][0, 0] != -1.0:
            raise SystemExit(f"wrong answer: {result}")
        print(elapsed, flush=True)
    if kind == "hebbian":
        policy.close()  # its child process would outlive this one


if __name__ == "__main__":
    main()

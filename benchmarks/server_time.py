"""What a server adds to the model: from a request's last byte to its answer, with a null policy.

A server in its own process measures it: the time that it names for the previous request of a
connection, less the policy's. Decoding, the slot's turn, logs, metrics and packing are in it; the
network and the client are not.

usage: python benchmarks/server_time.py [--requests N] [--cameras N] [--write docs/benchmarks.md]
       (exits with 1 if the median of a link is above 1 ms)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from results_page import machine, replace_section
from served_process import Served, observation, served

from flash_transport import FlashTransportPolicy, PolicyClient, WebsocketPolicy

WARM_UP = 200
LIMIT_MS = 1.0
"""At the median."""


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    rows = []
    slowest = 0.0
    with (
        tempfile.TemporaryDirectory() as directory,
        served(Path(directory), {"model_config_name": "null"}) as server,
    ):
        for link in ("QUIC", "WebSocket", "unix socket"):
            with connect(server, link) as client:
                times = server_ms(client, arguments.requests, arguments.cameras)
            p50, p90, p99 = np.percentile(times, [50, 90, 99])
            slowest = max(slowest, float(p50))
            rows.append(f"| {link} | {p50:.2f} | {p90:.2f} | {p99:.2f} |")
    table = "\n".join(
        [
            f"{machine()}; {arguments.requests} requests of {arguments.cameras} images "
            "[224, 224, 3] a link.",
            "",
            "| link | p50 ms | p90 ms | p99 ms |",
            "|---|---|---|---|",
            *rows,
        ]
    )
    print(table)
    if arguments.write is not None:
        replace_section(arguments.write, "server-time", table)
    if slowest > LIMIT_MS:
        sys.exit(f"the median is {slowest:.2f} ms, expected at most {LIMIT_MS:g} ms")


def connect(server: Served, link: str) -> PolicyClient:
    """A client on this computer."""
    if link == "WebSocket":
        return WebsocketPolicy("127.0.0.1", server.websocket_port)
    if link == "QUIC":
        return FlashTransportPolicy("127.0.0.1", server.quic_port)
    return FlashTransportPolicy(f"unix:{server.socket}")


def server_ms(client: PolicyClient, requests: int, cameras: int) -> list[float]:
    """The server's part of each request, without the policy."""
    message = observation(cameras)
    for _ in range(WARM_UP):
        infer_ms = client.infer(message)["server_timing"]["infer_ms"]
    times = []
    for _ in range(requests):
        timing = client.infer(message)["server_timing"]
        # an answer cannot name its own time, so it names that of the one before
        times.append(timing["prev_total_ms"] - infer_ms)
        infer_ms = timing["infer_ms"]
    return times


if __name__ == "__main__":
    main()

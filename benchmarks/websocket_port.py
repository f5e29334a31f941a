"""The WebSocket port of openpi-flash against a server of openpi's protocol, with a null policy.

One openpi-client, many clients at once, and the memory that hostile clients take. The servers take
turns, so that a noisy moment hits both.

usage: python benchmarks/websocket_port.py [--requests N] [--clients N] [--turns N]
                                           [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from arms import ARMS
from results_page import machine, replace_section
from transport import KEPT_PAGES, measure
from websocket_crowd import crowd_table
from websocket_memory import memory_table

CAMERAS = 3


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="of one client")
    parser.add_argument("--clients", type=int, default=32, help="at once")
    parser.add_argument("--turns", type=int, default=10, help="s for each server with all clients")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace its tables")
    args = parser.parse_args()
    arms = ARMS[:2]
    page = "\n\n".join(
        [
            f"{machine()}, {os.cpu_count()} cores; {CAMERAS} cameras of 224x224x3.",
            f"One openpi-client, {args.requests} requests a row:\n\n{one_client(args.requests)}",
            f"{args.clients} clients that ask again at once:\n\n"
            + crowd_table(arms, clients=args.clients, cameras=CAMERAS, turns=args.turns),
            f"Memory:\n\n{memory_table(arms)}",
            f"Load average at the end: {os.getloadavg()[0]:.1f}.",
        ]
    )
    print(page)
    if args.write:
        replace_section(args.write, "websocket-port", page)


def one_client(requests: int) -> str:
    """The table of one client, with glibc's malloc as it is and with one that keeps its pages."""
    args = argparse.Namespace(requests=requests, blocks=10, warm_up=100, cameras=CAMERAS)
    lines = [
        "| malloc | server | p50 ms | p99 ms | p50 ratio | p99 ratio | CPU s / 1,000 | CPU ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for title, environment in (("as it is", {}), ("keeps its pages", KEPT_PAGES)):
        results, _ = measure(ARMS[:2], args, environment)
        base = results[0]
        for result in results:
            cpu = result.cpu_seconds_per_1000
            lines.append(
                f"| {title} | {result.arm.server} | {result.percentile(50):.2f} "
                f"| {result.percentile(99):.2f} | {result.ratio(base, 50)} "
                f"| {result.ratio(base, 99)} | {cpu:.2f} | {cpu / base.cpu_seconds_per_1000:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

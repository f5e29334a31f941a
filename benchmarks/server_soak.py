"""Many clients for a minute: no error, and no growth of the server's memory and descriptors.

The policy takes 2 ms and computes nothing. Clients are threads of this process, each with its own
connection and rate; they connect anew now and then, so that what a connection leaves behind shows.

usage: python benchmarks/server_soak.py [--clients N] [--rate HZ] [--seconds S]
                                        [--write docs/benchmarks.md]
       (exits with 1 for an error or growth)
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from results_page import machine, replace_section
from served_process import Served, observation, served

from flash_transport import FlashTransportPolicy, PolicyClient, WebsocketPolicy

POLICY = """
import time
import numpy as np

class Stub:
    metadata = {"action_horizon": 50, "action_dim": 8}
    def infer(self, observation):
        time.sleep(0.002)
        return {"actions": np.zeros((50, 8))}
"""
MOST_GROWTH = 8 * 1024 * 1024
"""Bytes between the end of the warm-up and the end. What is kept of connections that ended, up to a
bound (shares, lines of the log, times), is 4 MB at most; the rest is an allocator's noise."""

REQUESTS_OF_A_CONNECTION = 50


@dataclass(frozen=True)
class Plan:
    """How many clients ask, each how often in a second."""

    clients: int
    rate: float


@dataclass
class Report:
    """What the clients saw."""

    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Footprint:
    """What a process holds: memory in bytes, and descriptors."""

    memory: int
    descriptors: int


def main() -> None:
    """Runs the clients, prints the result, and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rate", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    plan = Plan(arguments.clients, arguments.rate)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "stub_policy.py").write_text(POLICY)
        with served(folder, {"model_config_name": "python:stub_policy:Stub"}) as server:
            # what grows with the first requests only: caches, arenas of threads
            run(server, plan, arguments.seconds / 4)
            before = footprint(server.pid)
            report = run(server, plan, arguments.seconds)
            after = footprint(server.pid)
    growth = after.memory - before.memory
    p50, p99 = np.percentile(report.milliseconds, [50, 99])
    text = (
        f"{machine()}; {arguments.clients} clients at {arguments.rate:g} Hz for "
        f"{arguments.seconds:g} s, half over QUIC and half over WebSocket, a new connection every "
        f"{REQUESTS_OF_A_CONNECTION} requests, a policy of 2 ms.\n\n"
        "| requests | errors | p50 ms | p99 ms | memory MB | growth MB | descriptors | growth |\n"
        "|---|---|---|---|---|---|---|---|\n"
        f"| {len(report.milliseconds)} | {len(report.errors)} | {p50:.1f} | {p99:.1f} "
        f"| {after.memory / 1e6:.0f} | {growth / 1e6:+.1f} | {after.descriptors} "
        f"| {after.descriptors - before.descriptors:+d} |"
    )
    print(text)
    if arguments.write is not None:
        replace_section(arguments.write, "server-soak", text)
    if report.errors:
        sys.exit(f"{len(report.errors)} errors, the first: {report.errors[0]}")
    if growth > MOST_GROWTH or after.descriptors > before.descriptors:
        sys.exit(f"the server grew: {before} became {after}")


def run(server: Served, plan: Plan, seconds: float) -> Report:
    """Asks the server from one thread a client; returns when the last connection is closed."""
    report = Report()
    begin = time.monotonic()
    threads = [
        threading.Thread(
            target=client_loop, args=(server, number, plan, (begin, begin + seconds), report)
        )
        for number in range(plan.clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report


def client_loop(
    server: Served, number: int, plan: Plan, span: tuple[float, float], report: Report
) -> None:
    """One client's requests, at its rate and its place in a period, from `span` to `span` s."""
    message = observation(1)
    due, end = span[0] + number / plan.clients / plan.rate, span[1]
    try:
        while due < end:
            with connect(server, number) as client:
                for _ in range(REQUESTS_OF_A_CONNECTION):
                    if due >= end:
                        break
                    time.sleep(max(0.0, due - time.monotonic()))
                    sent = time.monotonic()
                    client.infer(message, timeout=10.0)
                    report.milliseconds.append((time.monotonic() - sent) * 1000)
                    due += 1 / plan.rate
    except Exception as error:
        report.errors.append(f"client {number}: {type(error).__name__}: {error}")


def connect(server: Served, number: int) -> PolicyClient:
    """Every second client asks over WebSocket."""
    if number % 2:
        return WebsocketPolicy("127.0.0.1", server.websocket_port)
    return FlashTransportPolicy("127.0.0.1", server.quic_port)


def footprint(pid: int) -> Footprint:
    """What a process of this machine holds when its connections are closed."""
    # a closed QUIC connection is forgotten some round trips later
    time.sleep(2.0)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Footprint(
        pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path(f"/proc/{pid}/fd").iterdir()))
    )


if __name__ == "__main__":
    main()

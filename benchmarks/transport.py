"""FlashTransportPolicy against openpi-client: one observation, a null policy, one interleaved run.

Every arm has its own server process and its own client process; the driver asks one client after
the other for one request each, in an order that rotates, so that a noisy moment hits all alike.
CPU seconds are those of all of an arm's threads, in both processes and the processes that they
start, from the kernel's accounting.

The run is cut into blocks. A ratio is the median of the blocks' ratios, and is printed with their
quartiles, so that one noisy moment decides nothing. All is measured twice: with glibc's malloc as
it is, and with its thresholds raised in all processes of all arms, so that no large buffer's pages
come fresh from the kernel.

usage: scripts/bench [--requests N] [--blocks N] [--warm-up N] [--cameras N] [--hebbian CHECKOUT]
                     [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from accounting import cpu_seconds, sysctl, udp_receive_overflows
from arms import ARMS, Arm, ask, hebbian_arm, start_client, start_server
from results_page import machine, replace_section
from transport_arguments import parse_arguments

KEPT_PAGES = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "536870912"}
"""What makes glibc keep the memory of large buffers instead of giving it back to the kernel."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What one arm took.

    Attributes:
        milliseconds: [block, request].
        cpu_seconds: of all its threads, for all requests together.
    """

    arm: Arm
    milliseconds: np.ndarray
    cpu_seconds: float

    @property
    def cpu_seconds_per_1000(self) -> float:
        """CPU seconds that 1,000 requests take."""
        return self.cpu_seconds / self.milliseconds.size * 1000

    def percentile(self, percent: float) -> float:
        """Of all requests, ms."""
        return float(np.percentile(self.milliseconds, percent))

    def ratio(self, base: Result, percent: float) -> Ratio:
        """Of this arm's percentile to `base`'s, block by block."""
        of_blocks = np.percentile(self.milliseconds, percent, axis=1) / np.percentile(
            base.milliseconds, percent, axis=1
        )
        low, median, high = np.percentile(of_blocks, [25, 50, 75])
        return Ratio(float(median), float(low), float(high))


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The median of the blocks' ratios and their quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclasses.dataclass(frozen=True)
class Run:
    """All arms under one setting of malloc.

    Attributes:
        title: the setting, for people.
        lost: datagrams that full socket buffers cost.
        load: the machine's load average over the last minute, at the end.
    """

    title: str
    results: list[Result]
    lost: int
    load: float


def main() -> None:
    """Run all arms under both settings and print the tables."""
    args = parse_arguments(sys.argv[1:])
    arms = ARMS if args.hebbian is None else (*ARMS, hebbian_arm(args.hebbian))
    settings: list[tuple[str, Mapping[str, str]]] = [
        ("glibc's malloc as it is", {}),
        ("malloc keeps its pages", KEPT_PAGES),
    ]
    runs = []
    for title, environment in settings:
        results, lost = measure(arms, args, environment)
        runs.append(Run(title, results, lost, os.getloadavg()[0]))
    page = describe(runs, args.cameras)
    print(page)
    if args.write:
        from latency_plot import plot_latencies

        name = Path("images") / "transport_latency.png"
        plot_latencies(runs, args.write.parent / name)
        plot = f"![The share of requests that are answered within a time, per arm]({name})"
        replace_section(args.write, "transport", f"{page}\n\n{plot}")


def measure(
    arms: Sequence[Arm], args: argparse.Namespace, environment: Mapping[str, str]
) -> tuple[list[Result], int]:
    """Run every arm interleaved; also return the datagrams that full socket buffers cost."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        servers = [stack.enter_context(start_server(arm, directory, environment)) for arm in arms]
        clients = [
            stack.enter_context(start_client(arm, address, args.cameras, environment))
            for arm, (_, address) in zip(arms, servers, strict=True)
        ]
        pids = [
            (server.pid, client.pid) for (server, _), client in zip(servers, clients, strict=True)
        ]
        for _ in range(args.warm_up):
            for client in clients:
                ask(client)
        per_block = args.requests // args.blocks
        requests = per_block * args.blocks
        cpu_before = [sum(map(cpu_seconds, pair)) for pair in pids]
        lost_before = udp_receive_overflows()
        taken: list[list[int]] = [[] for _ in arms]
        for turn in range(requests):
            for offset in range(len(arms)):
                index = (turn + offset) % len(arms)
                taken[index].append(ask(clients[index]))
        lost = udp_receive_overflows() - lost_before
        cpu_after = [sum(map(cpu_seconds, pair)) for pair in pids]
    return [
        Result(arm, np.asarray(ns).reshape(args.blocks, per_block) / 1e6, after - before)
        for arm, ns, before, after in zip(arms, taken, cpu_before, cpu_after, strict=True)
    ], lost


def describe(runs: list[Run], cameras: int) -> str:
    """Return the Markdown tables of all runs, with the machine they ran on."""
    congestion = sysctl("net/ipv4/tcp_congestion_control")
    blocks, per_block = runs[0].results[0].milliseconds.shape
    lines = [
        f"{machine()}, {os.cpu_count()} cores, TCP {congestion}, "
        f"rmem_max {sysctl('net/core/rmem_max')}, wmem_max {sysctl('net/core/wmem_max')}; "
        f"loopback, {cameras} cameras of 224x224x3, "
        f"{blocks} blocks of {per_block} requests per arm, interleaved. A ratio is against the "
        "first row: the median of the blocks' ratios, and their quartiles.",
    ]
    for run in runs:
        base = run.results[0]
        lines += [
            "",
            f"**{run.title}** (load average {run.load:.1f}, datagrams lost to full receive "
            f"buffers: {run.lost})",
            "",
            "| client, server | p50 ms | p99 ms | p50 ratio | p99 ratio | CPU s / 1,000 "
            "| CPU ratio |",
            "|---|---|---|---|---|---|---|",
        ]
        for result in run.results:
            cpu = result.cpu_seconds_per_1000
            lines.append(
                f"| {result.arm.name} | {result.percentile(50):.2f} "
                f"| {result.percentile(99):.2f} | {result.ratio(base, 50)} "
                f"| {result.ratio(base, 99)} | {cpu:.2f} "
                f"| {cpu / base.cpu_seconds_per_1000:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

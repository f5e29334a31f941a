"""FlashTransportPolicy against openpi-client: one observation, a null policy, one interleaved run.

Every arm has its own server process and its own client process; the driver asks one client after
the other for one request each, in an order that rotates, so that a noisy moment hits all alike.
CPU seconds are those of all of an arm's threads in both processes, from the kernel's accounting.

The run is cut into blocks. A ratio is the median of the blocks' ratios, and is printed with their
quartiles, so that one noisy moment decides nothing. All is measured twice: with glibc's malloc as
it is, and with its thresholds raised in all processes of all arms, so that no large buffer's pages
come fresh from the kernel.

usage: scripts/bench [--requests N] [--blocks N] [--warm-up N] [--cameras N]
                     [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from results_page import machine, replace_section

HERE = Path(__file__).parent

KEPT_PAGES = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "536870912"}
"""What makes glibc keep the memory of large buffers instead of giving it back to the kernel."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way from a client to an answer."""

    name: str
    client: str
    server: str


ARMS = (
    Arm(
        "openpi-client, server of openpi's protocol (WebSocket)", "openpi-client", "openpi-protocol"
    ),
    Arm("openpi-client, openpi-flash (WebSocket)", "openpi-client", "openpi-flash"),
    Arm("FlashTransportPolicy, openpi-flash (QUIC)", "quic", "openpi-flash"),
    Arm("FlashTransportPolicy, openpi-flash (unix socket)", "unix", "openpi-flash"),
)


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000, help="in each arm and setting")
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=100)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--write", type=Path, help="replace the tables and the plot of this page")
    args = parser.parse_args()
    if args.requests < args.blocks or args.blocks < 1:
        parser.error("--requests must be at least --blocks, and --blocks at least 1")
    settings: list[tuple[str, Mapping[str, str]]] = [
        ("glibc's malloc as it is", {}),
        ("malloc keeps its pages", KEPT_PAGES),
    ]
    runs = []
    for title, environment in settings:
        results, lost = measure(args, environment)
        runs.append(Run(title, results, lost, os.getloadavg()[0]))
    page = describe(runs, args.cameras)
    print(page)
    if args.write:
        from latency_plot import plot_latencies

        name = Path("images") / "transport_latency.png"
        plot_latencies(runs, args.write.parent / name)
        plot = f"![The share of requests that are answered within a time, per arm]({name})"
        replace_section(args.write, "transport", f"{page}\n\n{plot}")


def measure(args: argparse.Namespace, environment: Mapping[str, str]) -> tuple[list[Result], int]:
    """Run every arm interleaved; also return the datagrams that full socket buffers cost."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        servers = [stack.enter_context(start_server(arm, directory, environment)) for arm in ARMS]
        clients = [
            stack.enter_context(start_client(arm, address, args.cameras, environment))
            for arm, (_, address) in zip(ARMS, servers, strict=True)
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
        taken: list[list[int]] = [[] for _ in ARMS]
        for turn in range(requests):
            for offset in range(len(ARMS)):
                index = (turn + offset) % len(ARMS)
                taken[index].append(ask(clients[index]))
        lost = udp_receive_overflows() - lost_before
        cpu_after = [sum(map(cpu_seconds, pair)) for pair in pids]
    return [
        Result(arm, np.asarray(ns).reshape(args.blocks, per_block) / 1e6, after - before)
        for arm, ns, before, after in zip(ARMS, taken, cpu_before, cpu_after, strict=True)
    ], lost


@contextlib.contextmanager
def start_server(
    arm: Arm, directory: Path, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the arm's server; yields it with the port or path its client shall use."""
    environment = {**os.environ, **environment}
    if arm.server == "openpi-protocol":
        command = [sys.executable, str(HERE / "openpi_protocol_server.py")]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
            process.kill()
        return
    websocket_port, quic_port = free_ports()
    config = directory / f"{arm.client}.json"
    transport: dict[str, object] = {"websocket_port": websocket_port, "quic_port": quic_port}
    address = {"openpi-client": str(websocket_port), "quic": str(quic_port)}.get(arm.client)
    if address is None:
        address = transport["unix_socket_path"] = str(directory / "action.sock")
    action = {"model_config_name": "null", "checkpoint_dir": ""}
    config.write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "state_dir": str(directory),
                "action": action,
                "action_transport": transport,
            }
        )
    )
    command = [sys.executable, "-m", "openpi_flash_server", "serve", "--config", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        wait_until_ready(f"http://127.0.0.1:{websocket_port}/healthz", process)
        yield process, str(address)
        process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def start_client(
    arm: Arm, address: str, cameras: int, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Start the arm's client process, connected by pipes."""
    command = [
        sys.executable,
        str(HERE / "transport_client.py"),
        arm.client,
        address,
        str(cameras),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        text=True,
        bufsize=1,
        env={**os.environ, **environment},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(client: subprocess.Popen[str]) -> int:
    """Have the client make one request; nanoseconds of its round trip."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("\n")
    client.stdin.flush()
    line = client.stdout.readline()
    if not line:
        raise SystemExit(f"client {client.args!r} ended with {client.wait()}")
    return int(line)


def wait_until_ready(url: str, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Poll a health endpoint until it answers 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"server {process.args!r} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"{url} was not ready within {seconds} s")


def free_ports() -> tuple[int, int]:
    """Return a TCP and a UDP port that nobody listens on."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        return tcp.getsockname()[1], udp.getsockname()[1]


def cpu_seconds(pid: int) -> float:
    """CPU time of all living threads of a process, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def udp_receive_overflows() -> int:
    """Datagrams that this machine dropped because a socket's receive buffer was full."""
    names, values = re.findall(r"^Udp: (.+)$", Path("/proc/net/snmp").read_text(), re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["RcvbufErrors"])


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


def sysctl(name: str) -> str:
    """Return a setting of the kernel."""
    return (Path("/proc/sys") / name).read_text().strip()


if __name__ == "__main__":
    main()

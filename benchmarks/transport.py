"""FlashTransportPolicy against openpi-client: one observation, a null policy, one interleaved run.

Every arm has its own server process and its own client process; the driver asks one client after
the other for one request each, in an order that rotates, so that a noisy moment hits all alike.
CPU seconds are those of all of an arm's threads in both processes, from the kernel's accounting.

usage: scripts/bench [--requests N] [--warm-up N] [--cameras N] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


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
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What one arm took."""

    arm: Arm
    milliseconds: np.ndarray
    cpu_seconds_per_1000: float

    def figures(self) -> tuple[float, float, float]:
        """Median and 99th percentile in milliseconds, CPU seconds per 1,000 requests."""
        p50, p99 = np.percentile(self.milliseconds, [50, 99])
        return float(p50), float(p99), self.cpu_seconds_per_1000


def main() -> None:
    """Run all arms and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=100)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--write", type=Path, help="replace the table in this Markdown file")
    args = parser.parse_args()
    results, lost = measure(args.requests, args.warm_up, args.cameras)
    table = describe(results, lost, args.cameras)
    print(table)
    if args.write:
        replace_section(args.write, "transport", table)


def measure(requests: int, warm_up: int, cameras: int) -> tuple[list[Result], int]:
    """Run every arm interleaved; also return the datagrams that full socket buffers cost."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [stack.enter_context(start_server(arm, directory)) for arm in ARMS]
        clients = [
            stack.enter_context(start_client(arm, port, cameras))
            for arm, (_, port) in zip(ARMS, servers, strict=True)
        ]
        pids = [
            (server.pid, client.pid) for (server, _), client in zip(servers, clients, strict=True)
        ]
        for _ in range(warm_up):
            for client in clients:
                ask(client)
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
        Result(arm, np.asarray(ns) / 1e6, (after - before) / requests * 1000)
        for arm, ns, before, after in zip(ARMS, taken, cpu_before, cpu_after, strict=True)
    ], lost


@contextlib.contextmanager
def start_server(arm: Arm, directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the arm's server; yields it with the port its client shall use."""
    if arm.server == "openpi-protocol":
        command = [sys.executable, str(HERE / "openpi_protocol_server.py")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
            process.kill()
        return
    websocket_port, quic_port = free_ports()
    config = directory / f"{arm.client}.json"
    transport = {"websocket_port": websocket_port, "quic_port": quic_port}
    action = {"model_config_name": "null", "checkpoint_dir": ""}
    config.write_text(
        json.dumps({"host": "127.0.0.1", "action": action, "action_transport": transport})
    )
    command = [sys.executable, "-m", "openpi_flash_server", "serve", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True) as process:
        wait_until_ready(f"http://127.0.0.1:{websocket_port}/healthz", process)
        yield process, websocket_port if arm.client == "openpi-client" else quic_port
        process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def start_client(arm: Arm, port: int, cameras: int) -> Iterator[subprocess.Popen[str]]:
    """Start the arm's client process, connected by pipes."""
    command = [
        sys.executable,
        str(HERE / "transport_client.py"),
        arm.client,
        str(port),
        str(cameras),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
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


def describe(results: list[Result], lost: int, cameras: int) -> str:
    """Return the Markdown table of a run, with the machine it ran on."""
    base = results[0]
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    lines = [
        f"{cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}, TCP {congestion}; loopback, {cameras} cameras of 224x224x3, "
        f"n = {len(base.milliseconds)} per arm, interleaved. Ratios are against the first row. "
        f"Datagrams lost to full receive buffers: {lost}.",
        "",
        "| client, server | p50 ms | p99 ms | p50 ratio | p99 ratio | CPU s / 1,000 | CPU ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        p50, p99, cpu = result.figures()
        base_p50, base_p99, base_cpu = base.figures()
        lines.append(
            f"| {result.arm.name} | {p50:.2f} | {p99:.2f} | {p50 / base_p50:.2f} "
            f"| {p99 / base_p99:.2f} | {cpu:.2f} | {cpu / base_cpu:.2f} |"
        )
    return "\n".join(lines)


def cpu_model() -> str:
    """Return the processor's name."""
    match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return match.group(1) if match else platform.processor()


def replace_section(path: Path, name: str, text: str) -> None:
    """Put the text between the section's markers, leaving the rest of the file alone."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page = path.read_text()
    if not pattern.search(page):
        raise SystemExit(f"{path} has no markers '{begin}' and '{end}'")
    path.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page))


if __name__ == "__main__":
    main()

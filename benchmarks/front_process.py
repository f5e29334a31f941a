"""Where the server's process ends: its CPU time for a request, a gigabyte and an idle connection.

A policy that computes nothing answers a few clients of another process, over each link, with three
raw cameras and with a state only. The kernel's books tell the CPU time of the server's threads, so
that other programs on the machine change little. Threads that run Python take turns, however many
cores there are: their part alone bounds what one process answers. Where Ray is installed, replicas
in other processes (`action.replicas`) are measured, too.

usage: python benchmarks/front_process.py [--requests N] [--turns N] [--idle N] [--write PAGE]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from results_page import machine, replace_section
from served_process import Served, observation, served

from flash_transport import FlashTransportPolicy, PolicyClient, WebsocketPolicy, packb

CLIENTS = 4
WARM_UP = 50
NATIVE = ("flash-", "tokio-", "client.poll", "event_engine", "grpc", "lifeguard", "ray.", "timer")
"""How threads that run no Python are called."""

LINKS = ("QUIC", "WebSocket", "unix socket")
NULL: dict[str, Any] = {"model_config_name": "null"}
REPLICAS: dict[str, Any] = {"engine": "ray", "replicas": 2, **NULL}


@dataclass(frozen=True)
class Cost:
    """CPU time of the server for one request, ms.

    Attributes:
        whole: of all threads; other processes, such as replicas, are not counted.
        python: of the threads that run Python.
        size: bytes of a request.
    """

    whole: float
    python: float
    size: int


def main() -> None:
    """Measures, prints, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=600, help="of one turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--idle", type=int, default=120, help="connections; a server allows 128")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client is not None:
        be_client(json.loads(arguments.client))
        return
    lines = [
        f"{machine()}; n = {arguments.turns} turns of {arguments.requests} requests by {CLIENTS} "
        "clients, median of the turns.",
        "",
        "| link | request | server's CPU ms / request | of it Python's threads | requests/s a core "
        "| Gb/s a core | requests/s at most |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [("a policy in the process", NULL)]
    if importlib.util.find_spec("ray") is not None:
        rows.append(("a policy in replicas", REPLICAS))
    for title, action in rows:
        for cameras in (3, 0):
            lines += cost_rows(title, action, cameras, arguments.requests, arguments.turns)
    lines += ["", *idle_table(arguments.idle)]
    text = "\n".join(lines)
    print(text)
    if arguments.write is not None:
        replace_section(arguments.write, "front-process", text)


def cost_rows(
    title: str, action: dict[str, Any], cameras: int, requests: int, turns: int
) -> Iterator[str]:
    """A row for each link; the links take turns."""
    size = len(packb(observation(cameras)))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        server = stack.enter_context(served(directory, action))
        clients = {link: stack.enter_context(crowd(server, link, cameras)) for link in LINKS}
        costs: dict[str, list[Cost]] = {link: [] for link in LINKS}
        for turn in range(turns):
            for link in LINKS if turn % 2 == 0 else reversed(LINKS):
                before = thread_seconds(server.pid)
                ask(clients[link], requests)
                after = thread_seconds(server.pid)
                whole, python = (
                    (b - a) / requests * 1e3 for a, b in zip(before, after, strict=True)
                )
                costs[link].append(Cost(whole, python, size))
    for link, own in costs.items():
        whole, python = median(c.whole for c in own), median(c.python for c in own)
        gigabits = f"{size * 8 / whole / 1e6:.1f}" if cameras else "–"
        spread = f"{min(c.whole for c in own):.2f}-{max(c.whole for c in own):.2f}"
        yield (
            f"| {link}, {title} | {size / 1000:.1f} KB | {whole:.2f} ({spread}) | {python:.2f} "
            f"| {1e3 / whole:.0f} | {gigabits} | {1e3 / python:.0f} |"
        )


def thread_seconds(pid: int) -> tuple[float, float]:
    """CPU time of all threads of a process, and of those that run Python, s.

    The transports' threads have names of their own; whatever else runs is Python.
    """
    whole = python = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        # a thread may end meanwhile
        with contextlib.suppress(OSError):
            used = int((task / "schedstat").read_text().split()[0]) / 1e9
            whole += used
            python += used * (not (task / "comm").read_text().startswith(NATIVE))
    return whole, python


@contextlib.contextmanager
def crowd(server: Served, link: str, cameras: int) -> Iterator[subprocess.Popen[str]]:
    """A process with clients that are connected and warm."""
    given = {
        "link": link,
        "cameras": cameras,
        "websocket_port": server.websocket_port,
        "quic_port": server.quic_port,
        "socket": str(server.socket),
    }
    with subprocess.Popen(
        [sys.executable, __file__, "--client", json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        ask(process, WARM_UP * CLIENTS)
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(clients: subprocess.Popen[str], requests: int) -> None:
    """Has the clients send so many requests together, and waits for the last answer."""
    assert clients.stdin is not None
    assert clients.stdout is not None
    clients.stdin.write(f"{requests}\n")
    clients.stdin.flush()
    if clients.stdout.readline() != "done\n":
        raise SystemExit("the clients failed")


def be_client(given: dict[str, Any]) -> None:
    """The process of `crowd`: a number of requests for each line of standard input."""
    message = observation(given["cameras"])
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as threads:
        policies = [stack.enter_context(connect(given)) for _ in range(CLIENTS)]
        for line in sys.stdin:
            each = int(line) // CLIENTS

            def send(policy: PolicyClient, count: int = each) -> None:
                for _ in range(count):
                    policy.infer(message)

            list(threads.map(send, policies))
            print("done", flush=True)


def connect(given: dict[str, Any]) -> PolicyClient:
    """One client."""
    if given["link"] == "WebSocket":
        return WebsocketPolicy("127.0.0.1", given["websocket_port"])
    if given["link"] == "QUIC":
        return FlashTransportPolicy("127.0.0.1", given["quic_port"])
    return FlashTransportPolicy(f"unix:{given['socket']}")


def idle_table(count: int) -> Iterator[str]:
    """Memory and CPU time of connections that ask nothing, after one request each."""
    yield f"{count} connections that ask nothing, for 20 s after one small request each:"
    yield ""
    yield "| link | memory of each, KB | CPU of each, ms/s |"
    yield "|---|---|---|"
    for link in LINKS[:2]:
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            server = stack.enter_context(served(directory, NULL))
            ports = {"websocket_port": server.websocket_port, "quic_port": server.quic_port}
            given = {"link": link, **ports}
            message = observation(0)
            # what the first clients make a server allocate is no matter of one more
            policies = [stack.enter_context(connect(given)) for _ in range(4)]
            for policy in policies:
                policy.infer(message)
            memory = resident_kb(server.pid)
            for _ in range(count - len(policies)):
                policies.append(stack.enter_context(connect(given)))
                policies[-1].infer(message)
            grown = (resident_kb(server.pid) - memory) / (count - 4)
            began, (before, _) = time.monotonic(), thread_seconds(server.pid)
            time.sleep(20)
            used = (
                (thread_seconds(server.pid)[0] - before) / (time.monotonic() - began) / count * 1e3
            )
        yield f"| {link} | {grown:.0f} | {used:.3f} |"


def resident_kb(pid: int) -> float:
    """Resident set of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1000


if __name__ == "__main__":
    main()

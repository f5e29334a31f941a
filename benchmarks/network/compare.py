"""FlashTransportPolicy against openpi-client over emulated paths, with real sockets. Linux, root.

Each arm has a server process in one network namespace and a client process in another; between them
`emulated_path` delays, queues and loses the packets of TCP and UDP alike. The arms take turns.

usage: python benchmarks/network/compare.py [--rows idle,loss,...] [--requests N] [--write docs]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from namespaces import SERVER_ADDRESS, Namespace, emulated_path, two_namespaces
from results_page import machine, replace_section
from rows import MORE_ROWS, ROWS, Row, choose

ROOT = Path(__file__).parents[2]
WARM_UP = 3
BACK_TO_BACK = 10
"""Requests of one arm in a row where a row has no pause."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way from a client to an answer.

    Attributes:
        name: as the table names it.
        transport: websocket or quic.
        congestion: TCP's controller where there is TCP.
        images: `image_encoding` of a client that sends photographs; empty: noise, raw.
    """

    name: str
    transport: str
    congestion: str = "cubic"
    images: str = ""


ARMS = (
    Arm("openpi-client, TCP Cubic", "websocket", "cubic"),
    Arm("openpi-client, TCP BBR", "websocket", "bbr"),
    Arm("FlashTransportPolicy", "quic"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen rows and print the table."""
    args = parse(arguments)
    program = args.program or build_path()
    results: list[tuple[Row, list[np.ndarray]]] = []
    with two_namespaces() as ends:
        for row in args.rows:
            times = measure(row, ARMS, args.requests, program, ends)
            results.append((row, times))
            print(row_line(row, times), flush=True)
    table = describe(results)
    print(table)
    if args.write:
        from plot import draw

        named = {row.name: times for row, times in results}
        draw(named, [arm.name for arm in ARMS], args.write / "images" / "network.png")
        replace_section(args.write / "benchmarks.md", "network", table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's choices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--rows", type=choose, default=list(ROWS.values()), help=", ".join(ROWS | MORE_ROWS)
    )
    parser.add_argument("--requests", type=int, help="of each arm and row, instead of the row's")
    parser.add_argument("--program", type=Path, help="emulated_path, if it is built already")
    parser.add_argument(
        "--write", type=Path, metavar="DOCS", help="folder of benchmarks.md and images/"
    )
    return parser.parse_args(arguments)


def build_path() -> Path:
    """Builds the relay; returns its program."""
    command = ["cargo", "build", "-q", "--release", "-p", "flash_transport"]
    subprocess.run([*command, "--example", "emulated_path"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "examples" / "emulated_path"


def measure(
    row: Row,
    arms: Sequence[Arm],
    requests: int | None,
    program: Path,
    ends: tuple[Namespace, Namespace],
) -> list[np.ndarray]:
    """The milliseconds of each arm's requests.

    With a pause the arms take turns request by request. Without one each asks `BACK_TO_BACK`
    times in a row, so that no connection rests while the others ask.
    """
    robot, server = ends
    burst = 1 if row.pause_s or row.connects else BACK_TO_BACK
    wanted = requests or row.requests
    with contextlib.ExitStack() as stack:
        arguments = row.path_arguments(seed=1)
        stack.enter_context(emulated_path(program, robot, server, arguments))
        clients = [stack.enter_context(start(arm, robot, server)) for arm in arms]
        word = "connect" if row.connects else "infer"
        taken: list[list[float]] = [[] for _ in arms]
        for turn in range(WARM_UP + -(-wanted // burst)):
            time.sleep(row.pause_s)
            for offset in range(len(arms)):
                index = (turn + offset) % len(arms)
                if burst > 1:
                    # the first of a row comes after a rest
                    ask(clients[index], word)
                    times = [ask(clients[index], word) * 1000 for _ in range(burst)]
                    taken[index].extend(times if turn >= WARM_UP else [])
                    continue
                seconds = ask(clients[index], word)
                if turn >= WARM_UP:
                    taken[index].append(seconds * 1000)
    return [np.asarray(times) for times in taken]


@contextlib.contextmanager
def start(arm: Arm, robot: Namespace, server: Namespace) -> Iterator[subprocess.Popen[str]]:
    """An arm's server, and its client, which is yielded."""
    peer = [sys.executable, str(Path(__file__).with_name("peer.py")), arm.congestion]
    serving = server.command(*peer, f"serve-{arm.transport}", SERVER_ADDRESS)
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(serving, stdout=pipe, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        images = [arm.images] if arm.images else []
        asking = robot.command(*peer, f"ask-{arm.transport}", SERVER_ADDRESS, port, *images)
        client = stack.enter_context(
            subprocess.Popen(asking, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        )
        stack.callback(client.kill)
        yield client


def ask(client: subprocess.Popen[str], word: str) -> float:
    """Seconds that the client's request took."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(word + "\n")
    client.stdin.flush()
    line = client.stdout.readline()
    if not line:
        raise SystemExit(f"client {client.args!r} ended with {client.wait()}")
    return float(line)


def describe(results: Sequence[tuple[Row, list[np.ndarray]]]) -> str:
    """The Markdown table of a run, with the machine that it ran on."""
    names = " | ".join(arm.name for arm in ARMS)
    count = ", ".join(str(len(times[0])) for _, times in results)
    lines = [
        f"{machine()}; 1 Gb/s unless said otherwise, request 452 KB, answer 7 KB; n = {count} per "
        "arm, interleaved.",
        "",
        f"| p50 / p95, ms | pause | {names} | times faster than Cubic, p50 |",
        "|---|---|" + "---|" * (len(ARMS) + 1),
    ]
    return "\n".join(lines + [row_line(row, times) for row, times in results])


def row_line(row: Row, times: list[np.ndarray]) -> str:
    """One row of the table."""
    cells = [f"{np.percentile(arm, 50):.1f} / {np.percentile(arm, 95):.1f}" for arm in times]
    ratio = np.median(times[0]) / np.median(times[-1])
    return f"| {row.name} | {row.pause} | {' | '.join(cells)} | {ratio:.1f} |"


if __name__ == "__main__":
    main()

"""What processor time lost packets cost both ends of FlashTransportPolicy. Linux, root.

The namespaces and path of compare.py, once without loss and once with 2 %, in turns.

usage: python benchmarks/network/loss_cpu.py [--requests N] [--blocks N] [--write docs]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare import Arm, ask, build_path, start
from namespaces import Namespace, emulated_path, two_namespaces
from results_page import machine, replace_section
from rows import ROWS, Row

LOSSY = dataclasses.replace(ROWS["loss"], name="RTT 20 ms with 2 % loss")
CLEAN = dataclasses.replace(LOSSY, name="RTT 20 ms without loss", loss="none")
WARM_UP = 20
"""Requests after which both ends know the path."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both paths in turns and print the table."""
    args = parse(arguments)
    program = args.program or build_path()
    costs: dict[str, list[float]] = {CLEAN.name: [], LOSSY.name: []}
    with two_namespaces() as ends:
        for _ in range(args.blocks):
            for row in (CLEAN, LOSSY):
                costs[row.name].append(cost(row, args.requests, program, ends))
    medians = {name: float(np.median(milliseconds)) for name, milliseconds in costs.items()}
    lines = [
        f"{machine()}; {args.requests} requests a block, {args.blocks} blocks of each, in turns.",
        "",
        "| path | CPU of both ends, ms a request | ratio |",
        "|---|---|---|",
    ]
    for name, median in medians.items():
        lines.append(f"| {name} | {median:.2f} | {median / medians[CLEAN.name]:.2f} |")
    table = "\n".join(lines)
    print(table)
    if args.write:
        replace_section(args.write / "benchmarks.md", "loss-cpu", table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's choices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200, help="of each block")
    parser.add_argument("--blocks", type=int, default=5, help="of each path")
    parser.add_argument("--program", type=Path, help="emulated_path, if it is built already")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="folder of benchmarks.md")
    return parser.parse_args(arguments)


def cost(row: Row, requests: int, program: Path, ends: tuple[Namespace, Namespace]) -> float:
    """Milliseconds of processor time a request takes at both ends together."""
    robot, server = ends
    with (
        emulated_path(program, robot, server, row.path_arguments(seed=1)),
        start(Arm("ours", "quic"), robot, server) as client,
    ):
        for _ in range(WARM_UP):
            ask(client, "infer")
        before = processor_seconds()
        for _ in range(requests):
            time.sleep(0.01)
            ask(client, "infer")
        return (processor_seconds() - before) / requests * 1000


def processor_seconds() -> float:
    """What the client and the server have used since they began."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"peer.py" in (process / "cmdline").read_bytes():
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:  # it has ended
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

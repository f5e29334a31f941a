"""How long requests with photographs take by each `image_encoding`. Linux, root.

The same namespaces and path as compare.py; the arms are clients of one kind that take turns. The
server decodes what it gets.

usage: python benchmarks/network/image_encoding.py [--rows lte,...] [--requests N] [--write docs]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare import Arm, build_path, measure
from namespaces import two_namespaces
from results_page import machine, replace_section
from rows import Row, choose

ARMS = tuple(Arm(name, "quic", images=name) for name in ("raw", "jpeg", "auto"))


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
        replace_section(args.write / "benchmarks.md", "image-encoding", table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's choices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=choose, default=choose("lte,gigabit"))
    parser.add_argument("--requests", type=int, help="of each arm and row, instead of the row's")
    parser.add_argument("--program", type=Path, help="emulated_path, if it is built already")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="folder of benchmarks.md")
    return parser.parse_args(arguments)


def describe(results: Sequence[tuple[Row, list[np.ndarray]]]) -> str:
    """The Markdown table of a run, with the machine that it ran on."""
    count = ", ".join(str(len(times[0])) for _, times in results)
    lines = [
        f"{machine()}; three photographs of 224x224, 452 KB raw; n = {count} per arm, interleaved.",
        "",
        f"| p50 / p95, ms | pause | {' | '.join(arm.name for arm in ARMS)} |",
        "|---|---|" + "---|" * len(ARMS),
    ]
    return "\n".join(lines + [row_line(row, times) for row, times in results])


def row_line(row: Row, times: Sequence[np.ndarray]) -> str:
    """One row of the table."""
    cells = [f"{np.percentile(arm, 50):.1f} / {np.percentile(arm, 95):.1f}" for arm in times]
    return f"| {row.name} | {row.pause} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

"""The command line of the transport benchmark.

Standard library only: `scripts/bench` runs this file before anything is installed. It prints the
help if it is asked for, and nothing if the arguments are right.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line without the program's name.

    Raises:
      SystemExit: code 0 if the help was asked for, code 2 if an argument is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure FlashTransportPolicy against openpi-client, all in one interleaved "
        "run, and print the tables of docs/benchmarks.md.",
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=1000,
        metavar="N",
        help="requests of each arm in each setting of malloc (default: %(default)s)",
    )
    parser.add_argument(
        "--blocks",
        type=int,
        default=10,
        metavar="N",
        help="parts of the run whose ratios are compared (default: %(default)s)",
    )
    parser.add_argument(
        "--warm-up",
        type=int,
        default=100,
        metavar="N",
        help="requests before the first that counts (default: %(default)s)",
    )
    parser.add_argument(
        "--cameras",
        type=int,
        default=3,
        metavar="N",
        help="images of 224 x 224 pixels in an observation (default: %(default)s)",
    )
    parser.add_argument(
        "--hebbian",
        type=Path,
        metavar="CHECKOUT",
        help="also measure Hebbian's openpi-flash, from this checkout",
    )
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="replace the tables and the plot of this page"
    )
    parsed = parser.parse_args(arguments)
    if parsed.blocks < 1 or parsed.requests < parsed.blocks:
        parser.error(
            f"--requests {parsed.requests} --blocks {parsed.blocks}: "
            "each block needs at least one request"
        )
    return parsed


if __name__ == "__main__":
    parse_arguments(sys.argv[1:])

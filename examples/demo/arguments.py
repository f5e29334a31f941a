"""The demo's command line.

Standard library only: `scripts/demo` runs this file before anything is installed. It prints the
help if it is asked for, and nothing if the arguments are right.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PROMPT = "touch the red cube"


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    seconds: float
    transport: str
    """"quic" or "websocket"."""
    headless: bool
    output: Path | None
    """None: a folder named after date and time."""
    cache: Path | None
    """None: demo_output/cache."""
    prompt: str
    weights: Path | None
    """None: those that come with the project, or random ones."""
    untrained: bool
    film: Path | None
    record: Path | None


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Parse the command line without the program's name.

    Raises:
      SystemExit: code 0 if the help was asked for, code 2 if an argument is wrong.
    """
    return Arguments(**vars(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Run the policy server, a simulated robot and the robot node as processes on "
        "this machine, print their state, and check the run. Write plots, camera images and an "
        "MCAP file. Exit code 0: action chunks arrived, the arm followed them, none was older "
        "than the robot's settings allow, and with trained weights it did what the prompt says.",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=20.0,
        metavar="N",
        help="how long to record once the robot moves, in seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--transport",
        choices=("quic", "websocket"),
        default="quic",
        help="how the robot reaches the server (default: %(default)s)",
    )
    parser.add_argument(
        "--headless",
        action="store_true",
        help="print a new line every few seconds instead of one that changes in place; the demo "
        "never opens a window",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the results go (default: demo_output/<date and time>)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where the demo checkpoint is kept between runs (default: demo_output/cache)",
    )
    parser.add_argument(
        "--film",
        type=_gif,
        metavar="PATH.gif",
        help="also write the first 8 seconds as an animated GIF: camera images, joints, subtask",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="DIR",
        help="have the robot's node record each episode in this folder, for training",
    )
    parser.add_argument(
        "--prompt",
        default=DEFAULT_PROMPT,
        metavar="TEXT",
        help='the instruction to the robot, as in "touch the blue cube" (default: %(default)s)',
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--untrained",
        action="store_true",
        help="random weights, also where trained ones come with the project",
    )
    weights.add_argument(
        "--weights",
        type=_checkpoint,
        metavar="DIR",
        help="a checkpoint of yours for the config pi05_sim_cubes (default: the one in "
        "examples/sim_policy/weights; where there is none, random weights)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 2 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2 to 3600")
    return value


def _checkpoint(text: str) -> Path:
    path = Path(text)
    if not (path / "params").is_dir() and not (path / "model.safetensors").is_file():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no checkpoint: it has neither a folder params nor model.safetensors"
        )
    return path


def _gif(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".gif":
        raise argparse.ArgumentTypeError(f"{text!r} does not end with .gif")
    if not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is in a folder that does not exist")
    return path


if __name__ == "__main__":
    parse_arguments(sys.argv[1:])

"""`python -m demo`: run the demo. `scripts/demo` sets everything up and then does this."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from pathlib import Path
from typing import NoReturn

from demo.runner import ROOT, Options, default_output, run_demo
from demo.terminal import Terminal

DEFAULT_PROMPT = "put the red cube on the plate"


def main() -> int:
    """Run the demo; return 0 if everything held, 1 if not, 128 + the signal if one ended it."""
    arguments = _parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    options = Options(
        seconds=arguments.seconds,
        transport=arguments.transport,
        prompt=arguments.prompt,
        output=(arguments.output or default_output(datetime.datetime.now())).resolve(),
        cache=arguments.cache.resolve(),
    )
    in_place = sys.stdout.isatty() and not arguments.headless
    terminal = Terminal(sys.stdout, in_place=in_place)
    try:
        return run_demo(options, terminal)
    except _InterruptedError as interruption:
        terminal.say(f"interrupted: everything is stopped; the logs are in {options.output}")
        return 128 + interruption.number


class _InterruptedError(BaseException):
    """A signal asked us to stop. Not an Exception: nothing on the way may take it for its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _interrupt(number: int, frame: object) -> NoReturn:
    del frame
    # once is enough: what stops the processes must not be interrupted itself; it takes seconds
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise _InterruptedError(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Runs the policy server, a simulated robot and the robot node as processes on "
        "this machine, shows how they do, and judges the run. Leaves plots, pictures and an MCAP "
        "file. Exit code 0 means that chunks came, the arm did as told, and nothing was stale.",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=20.0,
        metavar="N",
        help="how long to watch once the robot moves (default: %(default)g)",
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
        help="print a line now and then instead of one that changes in place; no window is opened "
        "either way",
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
        default=ROOT / "demo_output" / "cache",
        metavar="DIR",
        help="where the demo checkpoint is kept between runs (default: demo_output/cache)",
    )
    parser.add_argument(
        "--prompt",
        default=DEFAULT_PROMPT,
        metavar="TEXT",
        help="the instruction (default: %(default)s)",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 2 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 2 and 3600")
    return value


if __name__ == "__main__":
    sys.exit(main())

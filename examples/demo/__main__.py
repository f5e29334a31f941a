"""`python -m demo`: run the demo. `scripts/demo` sets everything up and then does this."""

from __future__ import annotations

import datetime
import signal
import sys
from typing import NoReturn

from demo.arguments import parse_arguments
from demo.runner import ROOT, Options, default_output, run_demo
from demo.terminal import Terminal


def main() -> int:
    """Run the demo; return 0 if everything held, 1 if not, 128 + the signal if one ended it."""
    arguments = parse_arguments(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    options = Options(
        seconds=arguments.seconds,
        transport=arguments.transport,
        prompt=arguments.prompt,
        output=(arguments.output or default_output(datetime.datetime.now())).resolve(),
        cache=(arguments.cache or ROOT / "demo_output" / "cache").resolve(),
        film=arguments.film and arguments.film.resolve(),
        record=arguments.record and arguments.record.resolve(),
        is_untrained=arguments.untrained,
        weights=arguments.weights and arguments.weights.resolve(),
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


if __name__ == "__main__":
    sys.exit(main())

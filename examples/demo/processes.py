"""The demo's processes: started under a guard, watched, and stopped in good order. No orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

GUARD = Path(__file__).parent / "guard.py"
LAST_LINES = 20


@dataclass(frozen=True)
class Command:
    """What to run."""

    name: str
    """For people, and for the log's file name: "server"."""
    arguments: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    """On top of the demo's own environment."""


class ProcessDiedError(Exception):
    """A process ended that was not told to; the message names it and holds the end of its log."""

    def __init__(self, name: str, exit_code: int, log: Path) -> None:
        super().__init__(name, exit_code, log)
        self.name = name
        self.exit_code = exit_code
        self.log = log

    def __str__(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
        end = "".join(f"\n  | {line}" for line in lines) or "\n  | (it printed nothing)"
        return (
            f"{self.name} ended with {describe_exit(self.exit_code)}; the end of {self.log}:{end}"
        )


class Processes:
    """Starts commands, each with a log file `<name>.log`, and stops them all on leaving.

    Args:
      log_dir: where the logs go; must exist.
      grace: seconds that a process has between being told to stop and being killed.
    """

    def __init__(self, log_dir: Path, *, grace: float = 15.0) -> None:
        self._log_dir = log_dir
        self._grace = grace
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._exit_codes: dict[str, int] = {}

    @property
    def exit_codes(self) -> Mapping[str, int]:
        """How the processes that have ended did so, in that order."""
        return self._exit_codes

    def log_of(self, name: str) -> Path:
        """Return where the output of a process goes."""
        return self._log_dir / f"{name}.log"

    def start(self, command: Command) -> None:
        """Start a command; its output goes to its log."""
        if command.name in self._running:
            raise ValueError(f"{command.name} runs already")
        guarded = [sys.executable, "-I", "-S", str(GUARD), str(self._grace), *command.arguments]
        with self.log_of(command.name).open("wb") as log:
            self._running[command.name] = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,  # the guard's lifeline: closed when we are gone
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.environ},
                start_new_session=True,
            )

    def check(self) -> None:
        """Look after everything that was started.

        Raises:
          ProcessDiedError: one has ended by itself.
        """
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                self._forget(name)
                raise ProcessDiedError(name, code, self.log_of(name))

    def has_ended(self, name: str) -> bool:
        """Return whether a process that is meant to end has done so with exit code 0.

        Raises:
          ProcessDiedError: it ended with another one.
        """
        code = self._running[name].poll()
        if code is None:
            return False
        self._forget(name)
        if code != 0:
            raise ProcessDiedError(name, code, self.log_of(name))
        return True

    def stop(self, name: str) -> int:
        """Stop one process and return its exit code."""
        process = self._running[name]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self._grace + 5.0)
        except subprocess.TimeoutExpired:  # the guard hangs; its child dies with it
            process.kill()
            process.wait()
        return self._forget(name)

    def stop_all(self) -> None:
        """Stop what still runs, the last started first."""
        for name in reversed(list(self._running)):
            self.stop(name)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_all()

    def _forget(self, name: str) -> int:
        process = self._running.pop(name)
        if process.stdin is not None:
            process.stdin.close()
        self._exit_codes[name] = process.returncode
        return process.returncode


def describe_exit(code: int) -> str:
    """Return an exit code in words: "exit code 1", "signal SIGKILL"."""
    number = code - 128 if code > 128 else -code
    if number in set(signal.Signals):
        return f"signal {signal.Signals(number).name}"
    return f"exit code {code}"

"""A process of our own whose output goes to a file, for as long as a `with` block lasts."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from openpi_flash_training.evaluation.policy import PolicyFailedError

LAST_LINES = 12
STOP_S = 20.0


class ChildProcess:
    """Starts a command, and ends it.

    Args:
        name: for people, as in "the policy server".
        command: what to run.
        log: where its output goes.
        environ: on top of this process's environment.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._log = name, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
            )

    def said(self) -> str:
        """Its output until now."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Look after it.

        Raises:
            PolicyFailedError: it has ended; the message has the end of its output.
        """
        if self._process.poll() is not None:
            raise self._failure(f"ended with exit code {self._process.returncode}")

    def wait_for(self, words: str, seconds: float) -> str:
        """Wait until it says something; all that it said.

        Raises:
            PolicyFailedError: it has ended, or does not say it in time.
        """
        until = time.monotonic() + seconds
        while words not in (said := self.said()):
            self.check()
            if time.monotonic() > until:
                raise self._failure(f"was not ready within {seconds:.0f} s")
            time.sleep(0.1)
        return said

    def _failure(self, problem: str) -> PolicyFailedError:
        lines = self.said().strip().splitlines()[-LAST_LINES:]
        end = "".join(f"\n  | {line}" for line in lines)
        return PolicyFailedError(f"{self._name} {problem}; the end of its log:{end}")

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

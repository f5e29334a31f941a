"""Waiting for a process to be ready: visibly, with a limit, and not past its death."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

from demo.processes import Processes
from demo.terminal import Terminal

POLL = 0.1
"""Seconds."""
PATIENCE = 1.0
"""Seconds before a wait is worth a word."""


class NotReadyError(Exception):
    """Something did not happen within its time limit."""


def wait_until(
    holds: Callable[[], bool],
    what: str,
    *,
    seconds: float,
    processes: Processes,
    terminal: Terminal,
    pause: Callable[[float], object] = time.sleep,
    why_not: Callable[[], str] = lambda: "",
) -> None:
    """Wait until something holds.

    Args:
      holds: asked about ten times a second.
      what: "policy server: ready", for the terminal and the error.
      seconds: the limit.
      processes: looked after meanwhile.
      terminal: shows the wait.
      pause: passes some seconds, for example by spinning ROS.
      why_not: asked for a last word when the limit is reached.

    Raises:
      NotReadyError: the limit was reached.
      ProcessDiedError: a process ended meanwhile.
    """
    started = time.monotonic()
    while not holds():
        processes.check()
        now = time.monotonic()
        if now - started > seconds:
            reason = why_not()
            raise NotReadyError(
                f"{what}: not within {seconds:g} s" + (f"; {reason}" if reason else "")
            )
        if now - started >= PATIENCE:
            terminal.live(f"  {what} ... {now - started:.0f} s", now)
        pause(POLL)
    terminal.say(f"  {what} ({time.monotonic() - started:.1f} s)")


def is_healthy(port: int) -> bool:
    """Return whether the server on this machine answers /healthz with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

"""Sends requests at a fixed rate, whether answers come or not."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from openpi_flash_server.probe.load_schedule import due_times
from openpi_flash_server.probe.load_tally import LoadRow, LoadTally, Outcome

if TYPE_CHECKING:
    from flash_transport import InferenceFuture, PolicyClient


def run_rate(
    clients: Sequence[PolicyClient],
    observation: dict[str, Any],
    *,
    rate_hz: float,
    seconds: float,
    timeout: float,
    problem_of: Callable[[Mapping[str, Any]], str],
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[LoadRow, bool]:
    """Lets each client send at `rate_hz` for `seconds`, then waits for what is under way.

    A request that waits does not hold up the next one: as a robot's, it is superseded. Latencies
    count from when a request was due, so that a slow answer is not hidden by requests that it kept
    from being sent.

    Args:
        clients: each has a session of its own.
        observation: what all of them send.
        rate_hz: of each client.
        seconds: of sending.
        timeout: of each request, s.
        problem_of: what is wrong with an answer, or empty.
        clock: s.
        sleep: waits, s.

    Returns:
        What it amounted to, and whether Ctrl-C ended it early.
    """
    tally = LoadTally(len(clients), rate_hz)
    counting = threading.Condition()
    under_way: set[InferenceFuture] = set()
    started = clock()
    spent = seconds
    interrupted = False

    def ended(due: float, future: InferenceFuture) -> None:
        now = clock() - started
        outcome, error = _outcome(future, problem_of)
        with counting:
            under_way.discard(future)
            if outcome is not None:
                tally.ended(outcome, latency=now - due, error=error)
            counting.notify()

    try:
        for due, number in due_times(len(clients), rate_hz, seconds):
            pause = due - (clock() - started)
            if pause > 0:
                sleep(pause)
            with counting:
                tally.sent(late=max(0.0, clock() - started - due))
            future = clients[number].submit(observation, timeout)
            with counting:
                under_way.add(future)
            future.add_done_callback(functools.partial(ended, due))
        with counting:
            counting.wait_for(lambda: not under_way, timeout + _GRACE)
    except KeyboardInterrupt:
        interrupted = True
        spent = min(seconds, clock() - started)
    with counting:
        left = list(under_way)
    for future in left:
        future.cancel()
    with counting:
        counting.wait_for(lambda: not under_way, _GRACE)
        return tally.row(spent), interrupted


def _outcome(
    future: InferenceFuture, problem_of: Callable[[Mapping[str, Any]], str]
) -> tuple[Outcome | None, str]:
    """How it ended, and what went wrong; None for a request that the end of the test gave up."""
    from flash_transport import Superseded, Timeout

    try:
        answer = future.result()
    except Superseded:
        return Outcome.SUPERSEDED, ""
    except CancelledError:
        return None, ""
    except Timeout:
        return Outcome.TIMEOUT, ""
    # a callback must not raise: the future would only log it
    except Exception as error:
        return Outcome.FAILED, f"{type(error).__name__}: {error}"
    problem = problem_of(answer)
    return (Outcome.FAILED, problem) if problem else (Outcome.ANSWERED, "")


_GRACE = 1.0
"""s for the futures to end after their time limit."""

"""When each client of a load test sends. Pure."""

from __future__ import annotations

from collections.abc import Iterator


def due_times(clients: int, rate_hz: float, seconds: float) -> Iterator[tuple[float, int]]:
    """The requests of a load test in order: when each is due, and which client sends it.

    Each client sends at a fixed rate, as a robot does; the clients start evenly spaced within one
    period, because robots do not send in step.

    Args:
        clients: how many.
        rate_hz: requests per second of each client.
        seconds: no request is due at this time or later.

    Yields:
        Seconds since the start, and the client's number from 0.
    """
    number = 0
    # a request that is due at the end by a rounding error only is past it
    while (due := number / (rate_hz * clients)) < seconds * (1 - 1e-9):
        yield due, number % clients
        number += 1

"""What a wait for a connection leaves of a request's time, and adds to cost and errors. Pure."""

from __future__ import annotations

from dataclasses import replace

from flash_transport.auto.choice import Transport
from flash_transport.deadline import Deadline
from flash_transport.errors import Timeout
from flash_transport.stats import CallStats

__all__ = ["in_all", "time_left", "told"]


def time_left(
    timeout: float | None, deadline: Deadline, now: float, *, has_waited: bool
) -> float | None:
    """Seconds for a transport: all of them, or, after a wait, what is left, to a millisecond."""
    left = deadline.left(now)
    return round(left, 3) if has_waited and left is not None else timeout


def told(stats: CallStats, carrier: Transport, attempts: int) -> CallStats:
    """The cost of a call with its transport, and the attempts to connect that it waited for."""
    attempts += stats.connect_attempts
    return replace(stats, transport=carrier.value, connect_attempts=attempts)


def in_all(error: Exception, deadline: Deadline, *, has_waited: bool) -> Exception:
    """The error of a transport; after a wait a timeout says of which limit it had the rest."""
    if has_waited and isinstance(error, Timeout):
        return Timeout(f"no answer within {deadline}, connecting included: {error}")
    return error

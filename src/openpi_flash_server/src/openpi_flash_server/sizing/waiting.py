"""How long requests wait for a device that many robots share. Pure."""

from __future__ import annotations

import math


def share_that_waits(longer_than: float, others: int, period: float) -> float:
    """The share of requests that find more than so much work before them.

    Each of the other robots sends one request a period, at a phase of its own that is as likely as
    any other; a call of the model takes one unit of time. That is the N*D/D/1 queue, whose exact
    solution is known (Norros, Roberts, Simonian and Virtamo, "The superposition of variable bit
    rate sources in an ATM multiplexer", IEEE JSAC 1991, section III).

    Args:
        longer_than: the work, in calls.
        others: robots besides the one that asks.
        period: of each robot, in calls; more than `others`.
    """
    if longer_than < 0:
        return 1.0
    total = 0.0
    for number in range(math.floor(longer_than) + 1, others + 1):
        window = (number - longer_than) / period
        if window >= 1:
            # so many requests cannot be in less than a period
            return 1.0
        log = (
            math.lgamma(others + 1)
            - math.lgamma(number + 1)
            - math.lgamma(others - number + 1)
            + number * math.log(window)
            + (others - number) * math.log1p(-window)
        )
        idle = (period - others + longer_than) / (period - number + longer_than)
        total += math.exp(log) * idle
    return min(1.0, total)


def wait_quantile(quantile: float, others: int, period: float) -> float:
    """The work, in calls, that this share of requests does not find more of before them.

    Args:
        quantile: between 0 and 1, as 0.99.
        others: robots besides the one that asks.
        period: of each robot, in calls.

    Returns:
        Infinite if the robots ask for more than the device can do.
    """
    if others >= period:
        return math.inf
    low, high = 0.0, float(others)
    if share_that_waits(low, others, period) <= 1 - quantile:
        return 0.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if share_that_waits(middle, others, period) > 1 - quantile:
            low = middle
        else:
            high = middle
    return high


_PRECISION = 1e-3
"""Calls: a thousandth of a call is less than a clock of the server tells."""

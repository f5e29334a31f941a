"""Limits how often the same event is logged. Pure: the time is an argument.

A robot repeats a wrong request at its frame rate, and an attacker as fast as the network allows.
The first occurrences of a key are logged at once; the others are counted and logged together once
a period.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass
class _Period:
    started: float
    said: int = 0
    unsaid: int = 0


class RepeatLimit:
    """Decides whether an occurrence is logged now.

    Args:
        every: length of a period, s.
        at_once: occurrences of a key that are logged in each of its periods.
        keys: keys that are counted apart; further keys of the same period are counted as one.
    """

    def __init__(self, *, every: float = 60.0, at_once: int = 1, keys: int = 256) -> None:
        self._every = every
        self._at_once = at_once
        self._keys = keys
        # in the order in which their periods began
        self._periods: OrderedDict[Hashable, _Period] = OrderedDict()

    def occurred(self, key: Hashable, now: float, *, times: int = 1) -> int:
        """How many occurrences of `key` to log now, including these; 0: log nothing yet.

        Args:
            key: what occurred.
            now: monotonic s.
            times: how often it occurred since the last call.
        """
        period = self._periods.get(key)
        if period is None:
            self._forget_old(now)
            if len(self._periods) >= self._keys and key is not _OTHERS:
                return self.occurred(_OTHERS, now, times=times)
            period = self._periods[key] = _Period(now)
        elif now - period.started >= self._every:
            period = self._periods[key] = _Period(now, unsaid=period.unsaid)
            self._periods.move_to_end(key)
        period.unsaid += times
        if period.said >= self._at_once:
            return 0
        period.said += 1
        unsaid, period.unsaid = period.unsaid, 0
        return unsaid

    def _forget_old(self, now: float) -> None:
        while self._periods:
            key, oldest = next(iter(self._periods.items()))
            if now - oldest.started < self._every:
                return
            del self._periods[key]


_OTHERS = object()

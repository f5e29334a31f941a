"""Delays the check of API keys from an address that sent wrong ones. Pure.

The delay applies to every key from the address: parallel connections do not help an attacker, and
a robot behind the same address still gets in, only later.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FREE = 8
"""Wrong keys of an address without a delay: a robot may still have an old key."""
FIRST_DELAY = 0.25
"""s after the first key above that number; doubled with each further one."""
LONGEST_DELAY = 4.0
"""s; less than a client waits for a connection."""
FORGOTTEN_AFTER = 60.0
"""s without a wrong key, after which an address starts anew."""
ADDRESSES = 1024
"""Addresses that are remembered; the one with the oldest last wrong key makes room."""


@dataclass(frozen=True, slots=True)
class _Refusals:
    count: int
    last: float


class KeyRefusals:
    """The wrong keys of each address."""

    def __init__(self) -> None:
        # in the order of their last wrong key
        self._addresses: OrderedDict[str, _Refusals] = OrderedDict()

    def refused(self, address: str, now: float) -> None:
        """A wrong key came from `address` at `now` (monotonic s)."""
        count = self._count(address, now) + 1
        self._addresses[address] = _Refusals(count, now)
        self._addresses.move_to_end(address)
        if len(self._addresses) > ADDRESSES:
            self._addresses.popitem(last=False)

    def delay(self, address: str, now: float) -> float:
        """How long a key from `address` has to wait, s."""
        too_many = self._count(address, now) - FREE
        if too_many <= 0:
            return 0.0
        # the exponent is bounded, so that the power does not overflow
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(too_many - 1, 16))

    def _count(self, address: str, now: float) -> int:
        known = self._addresses.get(address)
        if known is None or now - known.last >= FORGOTTEN_AFTER:
            return 0
        return known.count

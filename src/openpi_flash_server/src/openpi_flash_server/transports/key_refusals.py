"""How long an address that gave wrong API keys waits before its next one is looked at. Pure.

The delay is the address's, whichever key comes next: an attacker who opens connections side by
side learns nothing sooner, and a robot behind the same address gets in, if later.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FREE = 8
"""Wrong keys of an address that cost nothing: a robot that was not told of a changed key."""
FIRST_DELAY = 0.25
"""s after the first one too many; doubled with each that follows."""
LONGEST_DELAY = 4.0
"""s; less than a client waits for a connection."""
FORGOTTEN_AFTER = 60.0
"""s without a wrong key."""
ADDRESSES = 1024
"""That are remembered; the one whose last wrong key is oldest makes room."""


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
        """How long a key of `address` has to wait, s."""
        too_many = self._count(address, now) - FREE
        if too_many <= 0:
            return 0.0
        # the exponent is bounded, so that the number stays one
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(too_many - 1, 16))

    def _count(self, address: str, now: float) -> int:
        known = self._addresses.get(address)
        if known is None or now - known.last >= FORGOTTEN_AFTER:
            return 0
        return known.count

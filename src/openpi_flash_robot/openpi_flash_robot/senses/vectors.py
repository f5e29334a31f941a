"""The newest numbers of one topic that has no names in it: a pose, a wrench, any vector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.senses.frames import CLOCK_JUMP_NS


class VectorSource:
    """Keeps the newest vector."""

    def __init__(self, name: str, topic: str, size: int) -> None:
        """Start empty.

        Args:
            name: as in the parameters; for reasons.
            topic: where it comes from; for reasons.
            size: how many numbers it must have.
        """
        self._what, self._size = f"state {name} ({topic})", size
        self._newest: tuple[int, NDArray[np.float64]] | None = None
        self._unusable = ""

    def add(self, stamp_ns: int, values: Sequence[float]) -> bool:
        """Take the numbers of one message. False if they were dropped.

        That is without a stamp, older than the newest, of another size, or not finite.
        """
        self._unusable = ""
        if stamp_ns == 0:
            self._unusable = "sends messages without header.stamp; they are not used"
        elif len(values) != self._size:
            self._unusable = f"has {len(values)} numbers, expected {self._size}"
        elif not all(map(math.isfinite, values)):
            wrong = next(value for value in values if not math.isfinite(value))
            self._unusable = f"has a value that is {wrong}"
        if self._unusable:
            return False
        if self._newest is not None and 0 <= self._newest[0] - stamp_ns < CLOCK_JUMP_NS:
            return False
        self._newest = (stamp_ns, np.asarray(values, dtype=np.float64))
        return True

    def refuse(self, why: str) -> None:
        """What came cannot be used, or why nothing comes; until numbers do."""
        self._unusable = why

    def blind(self, now: int, *, max_blind_ns: int, max_age_ns: int) -> Hold | None:
        """Why it has been missing for too long to move without it; None if it has not."""
        if self._newest is None:
            return self._reason("has not been received yet")
        age_ns = now - self._newest[0]
        if -age_ns > max_age_ns:
            return self._ahead(-age_ns)
        if age_ns <= max_blind_ns:
            return None
        return self._reason(
            f"is silent: it is {to_seconds(age_ns):.2f} s old, max_blind_time is "
            f"{to_seconds(max_blind_ns):.2f} s"
        )

    def newest(self, now: int, *, max_age_ns: int) -> tuple[int, NDArray[np.float64]] | Hold:
        """Stamp and numbers, or why there are none of now."""
        if self._newest is None:
            return self._reason("has not been received yet")
        age_ns = now - self._newest[0]
        if age_ns > max_age_ns:
            return self._reason(
                f"is stale: it is {to_seconds(age_ns):.2f} s old, max_observation_age is "
                f"{to_seconds(max_age_ns):.2f} s"
            )
        if -age_ns > max_age_ns:
            return self._ahead(-age_ns)
        return self._newest

    def _ahead(self, by_ns: int) -> Hold:
        return self._reason(
            f"is stamped {to_seconds(by_ns):.2f} s in the future; synchronise the clocks of the "
            "robot and of this computer"
        )

    def _reason(self, what: str) -> Hold:
        return Hold(HoldKind.OBSERVATION, f"{self._what} {self._unusable or what}")

"""Joint positions in the policy's order, merged by name from any number of topics."""

from __future__ import annotations

import bisect
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.senses.frames import CLOCK_JUMP_NS

MOVED_WITHIN_NS = 300_000_000
"""How far back `moved` looks; long enough to see a slow joint, and to see it stand."""

OTHERS_NAMED = 8
"""Joints of other names in a message for people."""

REMEMBERED_NS = SECOND
"""How far back `at` looks; images are not older when they are used."""


@dataclass(frozen=True, eq=False)
class JointReading:
    """Where the joints are.

    Attributes:
        positions: float64 [N], rad or m.
        oldest_ns: the oldest stamp among them.
    """

    positions: NDArray[np.float64]
    oldest_ns: int


def prefixed(names: Sequence[str], count: int, prefix: str) -> Sequence[str]:
    """The names of a message's joints here.

    Args:
        names: as the driver says them; none, or empty ones, from a driver that has none.
        count: how many positions the message has.
        prefix: of its topic; empty for none.
    """
    if not prefix:
        return names
    if not any(names):
        return [f"{prefix}{place + 1}" for place in range(count)]
    return [f"{prefix}{name}" for name in names]


class JointPositions:
    """The newest position of every joint.

    Attributes:
        has_heard: whether any message has arrived.
    """

    def __init__(
        self, joints: Sequence[str], topics: Sequence[str], quantity: str = "position"
    ) -> None:
        """Start empty.

        Args:
            joints: names in the policy's order; others are ignored.
            topics: where they come from; named in reasons.
            quantity: what the numbers are, if not positions; named in reasons.
        """
        self._joints = tuple(joints)
        self._columns = {name: index for index, name in enumerate(joints)}
        self._topics = ", ".join(topics)
        self._quantity = quantity
        self._positions = np.full(len(self._joints), np.nan)
        self._stamps_ns = [0] * len(self._joints)
        self._past: deque[tuple[int, NDArray[np.float64]]] = deque()
        self._unstamped: set[str] = set()
        self._why_unheard = ""
        self._others: list[str] = []
        self.has_heard = False
        self._ambiguous = ""
        self._not_finite: dict[str, float] = {}
        self._noted: dict[str, str] = {}

    def note(self, source: str, problem: str) -> None:
        """Say what is wrong with a source whose positions were left out; empty: nothing."""
        self._noted[source] = problem

    def add(self, stamp_ns: int, names: Sequence[str], positions: Sequence[float]) -> bool:
        """Take the positions of one message. False if it was dropped.

        That is one without a stamp, and one that names a joint of ours twice: nobody knows which
        position is right. Joints of other names and names without a position are ignored, and
        values that are not finite are no positions.
        """
        self.has_heard = True
        if stamp_ns == 0:
            self._unstamped.update(name for name in names if name in self._columns)
            return False
        self._ambiguous = self._named_twice(names)
        if self._ambiguous:
            return False
        for name, position in zip(names, positions):  # noqa: B905 - drivers may leave positions out
            column = self._columns.get(name)
            if column is None:
                self._note_other(name)
                continue
            if not math.isfinite(position):
                self._not_finite[name] = position
                continue
            self._not_finite.pop(name, None)
            self._unstamped.discard(name)
            behind_ns = self._stamps_ns[column] - stamp_ns
            if 0 < behind_ns < CLOCK_JUMP_NS:
                continue
            self._positions[column] = position
            self._stamps_ns[column] = stamp_ns
        self._remember(stamp_ns)
        return True

    @property
    def missing(self) -> bool:
        """Whether a joint has had no position yet."""
        return not all(self._stamps_ns)

    def explain_silence(self, why: str) -> None:
        """Say why nothing has arrived yet on topics; empty if that is not known."""
        self._why_unheard = why

    def _note_other(self, name: str) -> None:
        if len(self._others) < OTHERS_NAMED and name not in self._others:
            self._others.append(name)

    def _why_missing(self) -> str:
        if self._why_unheard:
            return f": {self._why_unheard}"
        return f": messages name {', '.join(self._others)}" if self._others else ""

    def _named_twice(self, names: Sequence[str]) -> str:
        """The first of our joints that stands twice among the names; empty if none does."""
        if len(set(names)) == len(names):
            return ""
        counts = Counter(names)
        return next((name for name in self._joints if counts[name] > 1), "")

    def _remember(self, stamp_ns: int) -> None:
        if self._past and stamp_ns < self._past[-1][0]:
            if self._past[-1][0] - stamp_ns < CLOCK_JUMP_NS:
                return
            self._past.clear()
        self._past.append((stamp_ns, self._positions.copy()))
        while stamp_ns - self._past[0][0] > REMEMBERED_NS:
            self._past.popleft()

    def moved(self) -> NDArray[np.float64]:
        """How far each joint has moved in the last `MOVED_WITHIN_NS`, [N]; 0 where unknown."""
        if not self._past:
            return np.zeros(len(self._joints))
        since_ns = self._past[-1][0] - MOVED_WITHIN_NS
        past = np.array([positions for stamp, positions in self._past if stamp >= since_ns])
        return np.nan_to_num(past.max(axis=0) - past.min(axis=0))

    def at(self, moment_ns: int, reading: JointReading) -> JointReading:
        """Where the joints were at a moment, between two messages; never beyond the newest one.

        Args:
            moment_ns: such as the stamp of an image.
            reading: the newest one.
        """
        if not self._past or moment_ns >= reading.oldest_ns:
            return reading
        stamps = [stamp for stamp, _ in self._past]
        after = bisect.bisect_right(stamps, moment_ns)
        if after == 0 or after == len(stamps):
            return reading
        (begin_ns, before), (end_ns, then) = self._past[after - 1], self._past[after]
        share = (moment_ns - begin_ns) / (end_ns - begin_ns)
        positions = before + share * (then - before)
        if not np.isfinite(positions).all():
            return reading
        return JointReading(positions, moment_ns)

    def blind(self, now: int, *, max_blind_ns: int, max_age_ns: int) -> Hold | None:
        """Which joint has been silent for too long to move by it; None if none is.

        Args:
            now: this moment.
            max_blind_ns: `max_blind_time`.
            max_age_ns: `max_observation_age`; a position that is stamped farther in the future is
                none of now, and says nothing of an arm that does not follow.
        """
        if ahead := self._ahead(now, max_age_ns):
            return ahead
        oldest_ns = min(self._stamps_ns, default=now)
        if now - oldest_ns <= max_blind_ns:
            return None
        oldest = self._joints[self._stamps_ns.index(oldest_ns)]
        return self._unusable([oldest]) or self._reason(
            f"joint {oldest} on {self._topics} is silent: its newest {self._quantity} is "
            f"{to_seconds(now - oldest_ns):.2f} s old, max_blind_time is "
            f"{to_seconds(max_blind_ns):.2f} s"
        )

    def newest(self, now: int, *, max_age_ns: int) -> JointReading | Hold:
        """Every joint's newest position, or which joint is missing or old."""
        missing = [
            name for name, stamp in zip(self._joints, self._stamps_ns, strict=True) if not stamp
        ]
        if missing:
            return self._unusable(missing) or self._reason(
                f"no {self._quantity} received yet of {', '.join(missing)} on {self._topics}"
                f"{self._why_missing()}"
            )
        if not self._joints:
            return JointReading(self._positions, now)
        oldest_ns = min(self._stamps_ns)
        oldest = self._joints[self._stamps_ns.index(oldest_ns)]
        age = to_seconds(now - oldest_ns)
        if now - oldest_ns > max_age_ns:
            return self._unusable([oldest]) or self._reason(
                f"joint {oldest} on {self._topics} is stale: its newest {self._quantity} is "
                f"{age:.2f} s old, max_observation_age is {to_seconds(max_age_ns):.2f} s"
            )
        if ahead := self._ahead(now, max_age_ns):
            return ahead
        return JointReading(self._positions.copy(), oldest_ns)

    def _ahead(self, now: int, max_age_ns: int) -> Hold | None:
        """The reason to hold if a position is of the future."""
        ahead_ns = max(self._stamps_ns, default=now) - now
        if ahead_ns <= max_age_ns:
            return None
        return self._reason(
            f"joint states on {self._topics} are stamped {to_seconds(ahead_ns):.2f} s in the "
            f"future; synchronise the clocks of the robot and of this computer"
        )

    def _unusable(self, joints: Sequence[str]) -> Hold | None:
        """What is wrong with the newest messages, where that is why positions are missing.

        Args:
            joints: whose positions are missing or old.
        """
        for problem in filter(None, self._noted.values()):
            return self._reason(problem)
        if self._ambiguous:
            return self._reason(
                f"joint {self._ambiguous} is named twice in a message on {self._topics}: two "
                "drivers publish it, or one does wrongly"
            )
        for name, value in self._not_finite.items():
            return self._reason(
                f"the {self._quantity} of joint {name} on {self._topics} is {value}"
            )
        unstamped = [name for name in joints if name in self._unstamped]
        if unstamped:
            return self._reason(
                f"positions of {', '.join(unstamped)} on {self._topics} come without "
                "header.stamp; they are not used: have the driver set it, or set "
                "joint_state_stamp to arrival"
            )
        return None

    def _reason(self, message: str) -> Hold:
        return Hold(HoldKind.OBSERVATION, message)

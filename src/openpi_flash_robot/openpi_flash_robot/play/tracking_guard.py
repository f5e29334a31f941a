"""Whether the arm follows: what was commanded is compared with what is measured.

An arm lags behind its command by the delay of its controller, which nobody knows exactly. So a
measured position is held against everything that was commanded within `delay` before it: the error
is its distance to the range of these commands. An arm that lags by less has none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.motion import Joints

KEPT_NS = 4_000_000_000
"""How long commands are remembered: far beyond any delay and age of a joint state, and until an
arm that did not follow has been looked at."""


SUSPICIOUS = 0.75
"""Share of the greatest error from which on a message makes the next one count."""


class TrackingGuard:
    """Remembers what was commanded, and says which joint does not follow.

    Attributes:
        greatest_error: of the watched joints at the last check, rad or m; NaN before.
    """

    def __init__(
        self,
        joints: Sequence[str],
        max_error: Sequence[float],
        delay_ns: int,
        watched: Sequence[bool],
    ) -> None:
        """Begin with no commands.

        Args:
            joints: their names.
            max_error: per joint, rad or m; 0 for a joint that nobody watches.
            delay_ns: greatest delay of an arm that follows.
            watched: whether a controller moves the joint.
        """
        self._joints = tuple(joints)
        self._watched = np.asarray(watched, dtype=np.bool_)
        self._suspected_ns: int | None = None
        self._commands: deque[tuple[int, Joints]] = deque()
        self.greatest_error = float("nan")
        self.update_limits(max_error, delay_ns)

    def update_limits(self, max_error: Sequence[float], delay_ns: int) -> None:
        """Take other limits from now on."""
        limit = np.asarray(max_error, dtype=np.float64)
        self._max_error = np.where(self._watched & (limit > 0), limit, np.inf)
        self._delay_ns = delay_ns

    def forget(self) -> None:
        """Nothing that was commanded before counts any more."""
        self._commands.clear()
        self._suspected_ns = None

    def command(self, at_ns: int, positions: Joints) -> None:
        """Note what is commanded for a moment; moments ascend, or the clock was set back."""
        if self._commands and at_ns < self._commands[-1][0]:
            self._commands.clear()
        self._commands.append((at_ns, positions))
        while at_ns - self._commands[0][0] > KEPT_NS:
            self._commands.popleft()

    def has_been_near(self, measured: Joints) -> bool:
        """Whether the joints are where they were commanded to be lately, [N] rad or m.

        So is an arm that was blocked on its way. One that somebody has moved, and a driver that
        says zeros, are elsewhere.
        """
        if not self._commands:
            return False
        commanded = np.array([positions for _, positions in self._commands])
        lowest = commanded.min(axis=0) - self._max_error
        highest = commanded.max(axis=0) + self._max_error
        return bool(np.all((measured >= lowest) & (measured <= highest)))

    def check(self, stamp_ns: int, measured: Joints) -> Hold | None:
        """Why the arm does not follow; None if it does, or if nothing can be said.

        Args:
            stamp_ns: when the joints were measured; before the first command nothing is said.
            measured: [N], rad or m.
        """
        begin_ns = stamp_ns - self._delay_ns
        if not self._commands or stamp_ns < self._commands[0][0]:
            return None
        first = 0  # the newest command that is at least as old as the delay
        last = 0  # the oldest command that is not older than the measurement
        for index, (at_ns, _) in enumerate(self._commands):
            if at_ns <= begin_ns:
                first = index
            last = index
            if at_ns >= stamp_ns:
                break
        around = np.array([self._commands[index][1] for index in range(first, last + 1)])
        lowest, highest = around.min(axis=0), around.max(axis=0)
        error = np.maximum(np.maximum(lowest - measured, measured - highest), 0.0)
        excess = error - self._max_error
        watched = np.isfinite(self._max_error)
        self.greatest_error = float(error[watched].max()) if watched.any() else float("nan")
        if not np.any(error > SUSPICIOUS * self._max_error):
            self._suspected_ns = None
            return None
        if self._suspected_ns is None:
            self._suspected_ns = stamp_ns
        worst = int(np.argmax(excess))
        # one message alone may be wrong: the distance of a blocked arm grows from one to the next
        if not excess[worst] > 0 or stamp_ns <= self._suspected_ns:
            return None
        return Hold(
            HoldKind.TRACKING,
            f"joint {self._joints[worst]} does not follow: it is {error[worst]:.3f} away from its "
            f"command, max_tracking_error is {self._max_error[worst]:g}; find out why the arm does "
            f"not move as commanded (emergency stop, brakes, collision, controller), then call "
            f"~/reset",
        )

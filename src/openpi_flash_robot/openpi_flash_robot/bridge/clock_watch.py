"""Whether ROS time goes on. With use_sim_time it stands still while nobody publishes /clock.

A clock that stands makes every input look new, so nothing may be asked or commanded by it.
"""

from __future__ import annotations

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds

LONGEST_PAUSE_NS = 750_000_000
"""How long the clock may stand; a simulator's comes many times a second, a bag's 40 times."""


class ClockWatch:
    """Compares ROS time with a clock that never stands still.

    Attributes:
        problem: why nothing may be done by ROS time; None while it goes on.
    """

    def __init__(self) -> None:
        self._last_ns = 0
        self._since_ns = 0
        self.problem: Hold | None = None

    def look(self, now: int, steady_ns: int) -> bool:
        """Whether the clock was found to stand still, at this look for the first time.

        Args:
            now: ROS time; 0 before it has begun, which is another problem.
            steady_ns: of a steady clock.
        """
        if now != self._last_ns or now <= 0:
            self._last_ns, self._since_ns = now, steady_ns
            self.problem = None
            return False
        silent_ns = steady_ns - self._since_ns
        if silent_ns <= LONGEST_PAUSE_NS:
            return False
        is_first = self.problem is None
        self.problem = Hold(
            HoldKind.CLOCK,
            f"/clock has been silent for {to_seconds(silent_ns):.1f} s: ROS time stands still, and "
            f"nothing is commanded; the simulator or the bag is paused, or has ended",
        )
        return is_first

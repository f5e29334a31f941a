"""Keeps the commands of a robot within its limits, however late they are sent.

A motion keeps to the limits at every moment, but a robot hears samples of it. Where this process
was late, the robot has waited at the sample before; the next one would be a jump. So a command that
is farther away than the limits allow is approached within them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.joint_limits import JointLimits, longest_step
from openpi_flash_robot.play.motion import Joints, MotionState

STALLED_PERIODS = 3
"""After a longer pause a robot that is told positions has come to stand at the last one."""

SLACK = 1e-6
"""Share by which a sample may exceed a limit: rounding, not motion."""


class Pacing:
    """Remembers the last command.

    Attributes:
        period_ns: time between two commands that are in time; may be changed between two calls.
    """

    def __init__(self, limits: JointLimits, period_ns: int, rates: NDArray[np.bool_]) -> None:
        """Begin with no command.

        Args:
            limits: of the axes that are commanded.
            period_ns: time between two commands that are in time.
            rates: which axes are told how fast to go; their positions mean nothing.
        """
        self._limits = limits
        self.period_ns = period_ns
        self._rates = rates
        self._last: tuple[int, MotionState] | None = None
        self._seconds = to_seconds(period_ns)  # from the command before the last to the last

    def forget(self) -> None:
        """The robot was not commanded for a while: it is where the next motion begins."""
        self._last = None
        self._seconds = to_seconds(self.period_ns)

    def next(self, now: int, wanted: MotionState) -> MotionState:
        """The command of this moment.

        Args:
            now: this moment; later than that of the last call.
            wanted: the sample of the motion.
        """
        if self._last is None:
            self._last = (now, wanted)
            return wanted
        at_ns, last = self._last
        gap_ns = now - at_ns
        if gap_ns <= 0:
            return last
        is_stalled = gap_ns > STALLED_PERIODS * self.period_ns
        speed = np.where(self._rates, last.velocities, 0.0) if is_stalled else last.velocities
        seconds = to_seconds(self.period_ns if is_stalled else gap_ns)
        mean_s = (seconds + self._seconds) / 2.0
        command, speed = self._approach(last.positions, speed, wanted, seconds, mean_s)
        self._last = (now, MotionState(command.positions, speed))
        self._seconds = seconds
        return command

    def _approach(
        self, here: Joints, speed: Joints, wanted: MotionState, seconds: float, mean_s: float
    ) -> tuple[MotionState, Joints]:
        """The command, and the mean velocity that it means since the one before."""
        limits = self._limits
        change = limits.acceleration * mean_s
        asked = np.where(self._rates, wanted.velocities, (wanted.positions - here) / seconds)
        is_within = (
            (np.abs(asked) <= limits.velocity * (1.0 + SLACK) + SLACK)
            & (np.abs(asked - speed) <= change * (1.0 + SLACK) + SLACK)
            # and so will the next one be
            & (
                np.abs(asked - wanted.velocities)
                <= limits.acceleration * seconds / 2.0 * (1.0 + SLACK) + SLACK
            )
        )
        # half of the acceleration is for catching up, the rest for what the motion itself needs
        behind = wanted.positions - wanted.velocities * seconds - here
        step = longest_step(np.abs(behind), limits.acceleration / 2.0 * seconds**2)
        closing = wanted.velocities + np.copysign(step, behind) / seconds
        taken = np.where(self._rates, wanted.velocities, closing)
        taken = np.clip(taken, -limits.velocity, limits.velocity)
        taken = np.clip(taken, speed - change, speed + change)
        reached = np.clip(
            here + taken * seconds,
            np.minimum(limits.lower, here),
            np.maximum(limits.upper, here),
        )
        exact = is_within | self._rates
        positions = np.where(exact, wanted.positions, reached)
        told = np.where(is_within, wanted.velocities, taken)
        return MotionState(positions, told), np.where(is_within, asked, taken)

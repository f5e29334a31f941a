"""What a controller holds at any moment: the next fraction of a second, ending at rest.

The window is cut from the motion and sent again long before it ends. If nothing more comes, because
this process or its machine is gone, the controller plays the braking ramp at its end and the arm
stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openpi_flash_robot.play.joint_limits import JointLimits, brake
from openpi_flash_robot.play.motion import Motion

FOLLOWED_SHARE = 0.4
RAMP_SHARE = 0.5
"""Of the window; the rest is at rest. With 0.3 s the arm goes on for 120 ms at its speed and brakes
over 150 ms: 0.0975 rad from 0.5 rad/s."""


@dataclass(frozen=True)
class WindowTimes:
    """How long a window follows the motion, and how long it brakes then.

    Attributes:
        followed_ns: also how long nothing may be sent before a controller begins to brake.
        ramp_ns: at least; longer where a joint cannot stop so soon.
        whole_ns: the window lasts at least this long.
    """

    followed_ns: int
    ramp_ns: int
    whole_ns: int


def window_times(window_ns: int, lead_ns: int, period_ns: int) -> WindowTimes:
    """Divide a window.

    Args:
        window_ns: its length.
        lead_ns: how long commands may take to a controller: it must not begin to brake meanwhile.
        period_ns: time between two windows.
    """
    followed_ns = max(round(window_ns * FOLLOWED_SHARE), lead_ns + 2 * period_ns)
    ramp_ns = round(window_ns * RAMP_SHARE)
    return WindowTimes(followed_ns, ramp_ns, max(window_ns, followed_ns + ramp_ns))


def command_window(motion: Motion, now: int, times: WindowTimes, limits: JointLimits) -> Motion:
    """The motion from `now` on for a while, then a braking ramp, then rest.

    The pieces keep to the limits if the motion does. A motion that comes to rest before the ramp
    would begin is played to its end.

    Args:
        motion: what is to be played.
        now: this moment; before the motion's start the window begins with rest.
        times: of the window.
        limits: what every joint may do.
    """
    begin_ns = max(now, motion.start_ns)
    ramp_ns, end_ns = begin_ns + times.followed_ns, begin_ns + times.whole_ns
    window = motion.since(begin_ns)
    if motion.end_ns <= ramp_ns:
        return _resting_until(window, end_ns)
    tail = brake(motion.sample(ramp_ns), ramp_ns, times.ramp_ns, limits)
    return window.until(ramp_ns, _resting_until(tail, end_ns))


def _resting_until(motion: Motion, at_ns: int) -> Motion:
    """The motion with a point at rest at a later moment, if it ends before."""
    if motion.end_ns >= at_ns:
        return motion
    return Motion(
        np.concatenate([motion.times_ns, [at_ns]]),
        np.concatenate([motion.positions, motion.positions[-1:]]),
        np.concatenate([motion.velocities, np.zeros_like(motion.velocities[-1:])]),
    )

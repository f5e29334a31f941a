"""The commands to the controllers: a window of the motion, again and again until it has ended."""

from __future__ import annotations

from dataclasses import replace

from openpi_flash_robot.bridge.effects import PublishTrajectory
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.command_window import WindowTimes, command_window, window_times
from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.play.trajectory import trajectory_of
from openpi_flash_robot.settings.node_settings import NodeSettings


class Commander:
    """Sends every controller what it may play without this process, and remembers what that is."""

    def __init__(self, settings: NodeSettings) -> None:
        self._window: Motion | None = None
        self._is_whole = True
        self._sent_ns = 0
        self.update_settings(settings)

    def update_settings(self, settings: NodeSettings) -> None:
        """Take new values of the dynamic parameters."""
        self._settings = settings
        self._times: WindowTimes = window_times(
            settings.command_window_ns, settings.player.lead_ns, settings.control_period_ns
        )

    @property
    def commands(self) -> bool:
        """Whether the controllers are commanded at all; not in a dry run."""
        return self._settings.player.is_commanded

    def left_alone(self, now: int) -> tuple[Motion, str] | None:
        """What the controllers play without this process, and why; None if it is still in time.

        Args:
            now: this moment; long after the last window if this process was stopped, or if the
                clock was set forward.
        """
        gap_ns = now - self._sent_ns
        if self._window is None or self._is_whole or gap_ns <= self._times.followed_ns:
            return None
        return self._window, (
            f"nothing could be commanded for {to_seconds(gap_ns):.2f} s, and the controllers have "
            f"braked: this process was stopped, the computer is overloaded, or its clock was set"
        )

    def let_go(self) -> Motion | None:
        """Command no more; what the controllers play to its end, None if they rest."""
        window, self._window = self._window, None
        return window

    def forget(self) -> None:
        """The controllers are where the last window has brought them, at rest."""
        self._window = None

    def command(
        self, motion: Motion | None, now: int, limits: JointLimits, *, to_its_end: bool
    ) -> list[PublishTrajectory]:
        """Commands for this moment; none in a dry run, or if the controllers have it all.

        Args:
            motion: what is to be played; it ends at rest.
            now: this moment.
            limits: what every joint may do.
            to_its_end: all of it, because it brakes; else a window of it.
        """
        if motion is None or not self.commands:
            return []
        has_ended = now > motion.end_ns
        if has_ended and self._window is None:
            return []
        times = self._times
        if to_its_end:
            times = replace(times, followed_ns=max(times.followed_ns, motion.end_ns - now))
        window = command_window(motion, now, times, limits)
        self._window, self._sent_ns = None if has_ended else window, now
        self._is_whole = to_its_end
        return [
            PublishTrajectory(
                controller,
                trajectory_of(
                    window,
                    now,
                    controller.columns,
                    is_stamped=self._settings.stamp_trajectories or controller.kind.is_streamed,
                ),
            )
            for controller in self._settings.controllers
        ]

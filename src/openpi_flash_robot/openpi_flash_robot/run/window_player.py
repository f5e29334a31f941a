"""What is due at a moment, of the newest windows that the bridge has given the controllers.

Each window ends at rest, so a robot whose bridge says nothing more is braked.
"""

from __future__ import annotations

import numpy as np

from openpi_flash_robot.bridge.effects import PublishTrajectory
from openpi_flash_robot.play.motion import Motion, MotionState
from openpi_flash_robot.play.trajectory import motion_of
from openpi_flash_robot.settings.node_settings import NodeSettings

SAID_AT_REST_NS = 500_000_000
"""How long rest is commanded at the end of a motion. Then another program may move the robot."""


class WindowPlayer:
    """Joins the windows of all controllers into one motion of the robot.

    Attributes:
        axes: names of the axes that a controller moves, in the order of the settings; those of a
            command.
    """

    def __init__(self, settings: NodeSettings) -> None:
        """Begin with nothing to play.

        Args:
            settings: of the robot.
        """
        moved = [axis for axis in settings.axes if axis not in settings.axes_without_controller]
        self.axes = tuple(moved)
        self._columns = {c.name: [moved.index(j) for j in c.joints] for c in settings.controllers}
        self._parts: dict[str, Motion] = {}
        self._window: Motion | None = None

    @property
    def window(self) -> Motion | None:
        """The newest window, of all axes; None before the first."""
        return self._window

    def take(self, effect: PublishTrajectory) -> None:
        """Take a controller's window; the windows of one moment take over when all are there."""
        self._parts[effect.controller.name] = motion_of(effect.trajectory)
        if len(self._parts) == len(self._columns):
            self._window, self._parts = self._joined(), {}

    def _joined(self) -> Motion:
        times_ns = next(iter(self._parts.values())).times_ns
        positions = np.zeros((len(times_ns), len(self.axes)))
        velocities = np.zeros_like(positions)
        for name, part in self._parts.items():
            positions[:, self._columns[name]] = part.positions
            velocities[:, self._columns[name]] = part.velocities
        return Motion(times_ns, positions, velocities)

    def due(self, now: int) -> MotionState | None:
        """What the robot is to be told now; None for nothing."""
        window = self._window  # another thread may take the next one
        if window is None or now > window.end_ns + SAID_AT_REST_NS:
            return None
        return window.sample(now)

    def is_moving(self, now: int) -> bool:
        """Whether anything moves at this moment, or later."""
        window = self._window
        if window is None or now > window.end_ns:
            return False
        return bool(window.since(now).velocities.any())

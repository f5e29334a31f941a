"""Leads the robot to where a person wants it, while it is that person's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openpi_flash_robot.bridge.safety_watch import SafetyWatch
from openpi_flash_robot.bridge.takeover import Takeover, far_away
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.motion import Joints
from openpi_flash_robot.settings.node_settings import NodeSettings


class Leading:
    """Follows the targets of a person who has taken the robot.

    Attributes:
        waits: why the robot stands although a person has it; None while it follows.
    """

    def __init__(self, settings: NodeSettings, player: ChunkPlayer, watch: SafetyWatch) -> None:
        """Begin with a robot that is the policy's.

        Args:
            settings: of the node.
            player: what it moves.
            watch: looks whether the arm follows.
        """
        self._settings, self._player, self._watch = settings, player, watch
        self._takeover = Takeover(settings.takeover)
        self._is_led = False
        self.waits: Hold | None = None

    def update_settings(self, settings: NodeSettings) -> None:
        """Take new values of the dynamic parameters."""
        self._settings = settings

    @property
    def is_taken(self) -> bool:
        """Whether the robot is a person's."""
        return self._takeover.is_taken

    @property
    def is_led(self) -> bool:
        """Whether it follows that person now."""
        return self._is_led

    def hear_switch(self, now: int, value: bool) -> bool:
        """A message of the switch has arrived; whether the robot has changed hands."""
        return self._takeover.hear_switch(now, value)

    def hear_target(self, now: int, names: Sequence[str], positions: Sequence[float]) -> None:
        """Where the person wants the axes has arrived."""
        self._takeover.hear_target(now, names, positions)

    def stop(self) -> None:
        """The robot does not follow any more; whoever stops it also says why."""
        self._is_led, self.waits = False, None

    def lead(self, now: int, measured: Joints, obstacle: Hold | None) -> None:
        """Go on to the newest target, or stand.

        Args:
            now: this moment.
            measured: where the axes are, [N].
            obstacle: what keeps the robot from moving; None for nothing.
        """
        self.waits = obstacle or self._follow(now, measured)
        if self.waits is not None and self._is_led:
            self._is_led = False
            self._player.hold(self.waits, now)

    def _follow(self, now: int, measured: Joints) -> Hold | None:
        commanded = self._player.begin_at(measured, now)
        if not np.isfinite(commanded).all():
            return Hold(HoldKind.OBSERVATION, "the measured joint positions are not known")
        target = self._takeover.target(now, commanded)
        if isinstance(target, Hold):
            return target
        if not self._is_led:
            far = far_away(
                self._settings.axes, target, commanded, self._settings.player.max_start_delta
            )
            if far is not None:
                return far
            self._is_led = True
            self._watch.start()
        self._player.lead_to(now, target)
        return None

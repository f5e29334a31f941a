"""What is due at a moment, for each controller: of its newest window."""

from __future__ import annotations

from openpi_flash_robot.play.motion import Motion, MotionState

SAID_AT_REST_NS = 500_000_000
"""How long rest is said at the end of a window: one message may be lost. Then another commander,
such as a person with a joystick, may speak."""


class Playing:
    """Remembers a window for each controller."""

    def __init__(self) -> None:
        self._windows: dict[int, Motion] = {}

    def take(self, controller: int, window: Motion) -> None:
        """A newer window takes the place of the one before."""
        self._windows[controller] = window

    def due(self, now: int) -> dict[int, MotionState]:
        """What each controller is to be told now, by its index."""
        return {
            controller: window.sample(now)
            for controller, window in self._windows.items()
            if now <= window.end_ns + SAID_AT_REST_NS
        }

    def has_ended(self, now: int) -> bool:
        """Whether nothing is left to say."""
        return not self.due(now)

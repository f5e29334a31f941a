"""When the frames that have arrived are worth their copy: most of them are looked at by nobody.

The middleware keeps the two newest frames of each camera. They are enough for an observation while
the cameras run at about the same rate and delay. While they do not, every frame is taken as soon as
possible, so that the rings have the frame of each camera that is nearest to the slowest one's.
"""

from __future__ import annotations

from typing import Any

from openpi_flash_robot.senses.frames import CameraFrames

GLANCE_NS = 400_000_000
"""Oldest that the newest known frame gets without a look for newer ones."""

TRIAL = 10
"""Observations in a row that two frames of each camera must have sufficed for."""


class FrameDemand:
    """Decides when frames are taken: for an observation, and often enough to know of silence."""

    def __init__(self, frames: CameraFrames[Any]) -> None:
        """Begin by taking every frame.

        Args:
            frames: where the frames that were taken are.
        """
        self._frames = frames
        self._sufficed = 0
        self._seen_ns: int | None = None

    @property
    def takes_all(self) -> bool:
        """Whether every frame is taken."""
        return self._sufficed < TRIAL

    def wants(self, now: int, max_blind_ns: int) -> bool:
        """Whether to take frames although no observation is due.

        Args:
            now: this moment.
            max_blind_ns: `max_blind_time`. Before known frames reach this age, newer ones are
                looked for, so that no camera counts as silent whose frames were only not taken.
        """
        if self.takes_all:
            return True
        return not self._frames.are_newer_than(now, min(GLANCE_NS, max_blind_ns * 3 // 4))

    def observe(self) -> None:
        """Frames are chosen for an observation now; note whether two of each camera suffice."""
        moment_ns = self._frames.moment_ns
        if moment_ns is None or moment_ns == self._seen_ns:
            return
        self._seen_ns = moment_ns
        self._sufficed = self._sufficed + 1 if self._frames.two_suffice else 0

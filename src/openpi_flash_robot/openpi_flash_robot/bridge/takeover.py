"""A person takes the robot by teleoperation, and gives it back.

A switch says who commands. While it says the person, the targets of the teleoperation are led to
within the limits, and no request is sent. A switch that has fallen silent leaves the robot standing
with the person: nobody else gets it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.motion import Joints
from openpi_flash_robot.settings.node_settings import TakeoverSettings


class Takeover:
    """Remembers the switch and the newest target."""

    def __init__(self, settings: TakeoverSettings) -> None:
        """Nothing was heard yet: the policy has the robot.

        Args:
            settings: the topics, and the names of the axes in the targets.
        """
        self._settings = settings
        self._column = {name: index for index, name in enumerate(settings.joints)}
        self._is_taken = False
        self._switch_ns = 0
        self._target_ns: int | None = None
        self._target = np.full(len(settings.joints), np.nan)

    @property
    def is_taken(self) -> bool:
        """Whether the robot is a person's."""
        return self._is_taken

    def hear_switch(self, now: int, value: bool) -> bool:
        """A message of the switch has arrived; whether the robot has changed hands."""
        changed, self._is_taken = value is not self._is_taken, value
        self._switch_ns = now
        if changed:
            self._target_ns, self._target = None, np.full_like(self._target, np.nan)
        return changed

    def hear_target(self, now: int, names: Sequence[str], positions: Sequence[float]) -> None:
        """Where the person wants the axes has arrived; names that are none of ours are ignored."""
        for name, position in zip(names, positions):  # noqa: B905 - drivers may leave some out
            column = self._column.get(name)
            if column is not None and math.isfinite(position):
                self._target[column] = position
                self._target_ns = now

    def target(self, now: int, commanded: Joints) -> Joints | Hold:
        """Where the axes should go now, or why the robot stands although a person has it.

        Args:
            now: this moment.
            commanded: where they are commanded to be, [N]; axes without a target stay there.
        """
        topic, timeout_ns = self._settings.topic, self._settings.timeout_ns
        silent_ns = now - self._switch_ns
        if timeout_ns and not -timeout_ns <= silent_ns <= timeout_ns:
            return self._wait(
                f"the switch on {self._settings.switch_topic} is silent for "
                f"{to_seconds(abs(silent_ns)):.2f} s"
            )
        if self._target_ns is None:
            return self._wait(f"no target has come on {topic} yet")
        if not 0 <= now - self._target_ns <= self._settings.target_timeout_ns:
            age = to_seconds(abs(now - self._target_ns))
            return self._wait(f"the newest target on {topic} is {age:.2f} s old")
        return np.where(np.isnan(self._target), commanded, self._target)

    def _wait(self, why: str) -> Hold:
        return Hold(HoldKind.TAKEOVER, f"a person has the robot, and it stands: {why}")


def far_away(
    axes: Sequence[str], target: Joints, commanded: Joints, max_delta: Sequence[float]
) -> Hold | None:
    """Why the robot does not go to a person's first target; None if it is near enough.

    Args:
        axes: their names.
        target: [N], rad or m.
        commanded: where the axes are commanded to be, [N].
        max_delta: `max_start_delta`, [N].
    """
    delta = np.abs(target - commanded)
    worst = int(np.argmax(delta - np.asarray(max_delta)))
    if delta[worst] <= max_delta[worst]:
        return None
    return Hold(
        HoldKind.TAKEOVER,
        f"a person has the robot, and it stands: the target of {axes[worst]} is "
        f"{delta[worst]:.3f} away from where it is commanded, max_start_delta is "
        f"{max_delta[worst]:g}; bring the leader nearer",
    )

"""The stops that people have in their hands: emergency stops, a switch that enables, a hold switch.

All are fail-safe: what was not heard, or is not heard any more, stops the robot.
"""

from __future__ import annotations

from dataclasses import dataclass

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.settings.node_settings import StopSettings


@dataclass(frozen=True)
class _Heard:
    at_ns: int
    value: bool


class StopInputs:
    """What was last heard on each topic, by the time of its arrival."""

    def __init__(self, settings: StopSettings) -> None:
        """Nothing was heard yet.

        Args:
            settings: the topics and their timeouts.
        """
        self._settings = settings
        self._heard: dict[str, _Heard] = {}

    def hear(self, now: int, topic: str, value: bool) -> None:
        """A message has arrived."""
        self._heard[topic] = _Heard(now, value)

    def problem(self, now: int) -> Hold | None:
        """Which input keeps the robot from moving; None if none does."""
        for topic in self._settings.emergency_stops:
            reason = self._unwanted(now, topic, is_wanted=False)
            if reason is not None:
                return Hold(HoldKind.EMERGENCY_STOP, f"emergency stop {topic} {reason}")
        if topic := self._settings.enable:
            reason = self._unwanted(now, topic, is_wanted=True)
            if reason is not None:
                return Hold(HoldKind.REQUESTED, f"the switch on {topic} that enables {reason}")
        heard = self._heard.get(self._settings.hold)
        if heard is not None and heard.value:
            return Hold(HoldKind.REQUESTED, f"held by {self._settings.hold}")
        return None

    def _unwanted(self, now: int, topic: str, *, is_wanted: bool) -> str | None:
        heard, timeout_ns = self._heard.get(topic), self._settings.timeout_ns
        pressed = "is not pressed" if is_wanted else "is pressed"
        if heard is None:
            return f"was not heard yet, and counts as if it {pressed}"
        silent_ns = now - heard.at_ns
        if timeout_ns and not -timeout_ns <= silent_ns <= timeout_ns:
            return (
                f"is silent for {to_seconds(abs(silent_ns)):.2f} s, stop_timeout is "
                f"{to_seconds(timeout_ns):.2f} s, and counts as if it {pressed}"
            )
        return None if heard.value is is_wanted else pressed

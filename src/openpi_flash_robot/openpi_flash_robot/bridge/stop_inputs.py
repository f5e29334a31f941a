"""What stops the robot from outside: emergency stops, an enabling and a hold switch, its own state.

All are fail-safe: what was not heard, or is not heard any more, stops the robot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.settings.node_settings import StopSettings
from openpi_flash_robot.settings.stop_states import SaidState, StopState


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
        self._states: dict[str, tuple[int, SaidState]] = {}
        self._unpublished: set[str] = set()

    def hear(self, now: int, topic: str, value: bool) -> None:
        """A message has arrived."""
        self._heard[topic] = _Heard(now, value)

    def hear_state(self, now: int, name: str, said: SaidState) -> None:
        """A message of a state of the robot has arrived."""
        self._states[name] = (now, said)

    def look_at_publishers(self, counts: Mapping[str, int]) -> None:
        """Take how many publishers each state has, by its name."""
        self._unpublished = {name for name, count in counts.items() if not count}

    def problem(self, now: int) -> Hold | None:
        """Which input keeps the robot from moving; None if none does."""
        for state in self._settings.states:
            if stopping := self._stopping(now, state):
                return Hold(HoldKind.EMERGENCY_STOP, f"robot state {state.topic} {stopping}")
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

    def _stopping(self, now: int, state: StopState) -> str:
        """Why a state stops the robot; empty if it does not."""
        heard = self._states.get(state.name)
        if heard is None:
            return "was not heard yet, and counts as a stop"
        at_ns, said = heard
        silent_ns = now - at_ns
        if state.timeout_ns and not -state.timeout_ns <= silent_ns <= state.timeout_ns:
            return (
                f"is silent for {to_seconds(abs(silent_ns)):.2f} s, its timeout is "
                f"{to_seconds(state.timeout_ns):.2f} s, and counts as a stop"
            )
        if not state.timeout_ns and state.name in self._unpublished:
            return f"has no publisher any more, and counts as a stop; it was {said.text}"
        return f"is {said.text}" if said.stops else ""

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

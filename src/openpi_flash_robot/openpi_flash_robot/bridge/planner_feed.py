"""The planner's last subtask, published on change, or why there is none."""

from __future__ import annotations

from openpi_flash_robot.bridge.effects import PublishSubtask
from openpi_flash_robot.link.answer import ParsedAnswer, PlannerSubtask


class PlannerFeed:
    """Publishes a subtask when its text, or the instruction it was made for, has changed.

    Attributes:
        error: why there was no subtask for the last answer; empty if there was one.
    """

    def __init__(self) -> None:
        self.error = ""
        self._last: tuple[str, str] | None = None
        self._sequence = 0

    def forget(self) -> None:
        """Publish the next subtask even if its text is unchanged."""
        self.forget_error()
        self._last = None

    def forget_error(self) -> None:
        """Forget the error: no request is sent now."""
        self.error = ""

    def take(self, answer: ParsedAnswer, prompt: str, observation_ns: int) -> PublishSubtask | None:
        """What to show of an answer; None if there is nothing new.

        Args:
            answer: what the server has sent.
            prompt: the instruction it was asked for.
            observation_ns: stamp of the observation that was answered; the subtask may be older.
        """
        self.error = answer.planner_error
        return self._change(answer.subtask, prompt, observation_ns)

    def _change(
        self, subtask: PlannerSubtask | None, prompt: str, observation_ns: int
    ) -> PublishSubtask | None:
        if subtask is None or (subtask.text, prompt) == self._last:
            return None
        self._last = (subtask.text, prompt)
        self._sequence += 1
        return PublishSubtask(
            stamp_ns=max(0, observation_ns - subtask.age_ns),
            text=subtask.text,
            prompt=prompt,
            sequence=self._sequence,
        )

"""The planner's subtask, published on change, or why there is none."""

from __future__ import annotations

from openpi_flash_robot.bridge.effects import PublishSubtask
from openpi_flash_robot.link.answer import ParsedAnswer, PlannerSubtask
from openpi_flash_robot.nanoseconds import to_seconds


class PlannerFeed:
    """Publishes a subtask when its text, its instruction or the planner's error has changed.

    Attributes:
        error: why the last answer had no subtask, or an old one; empty if all was well.
        text: the last subtask; empty if there is none.
    """

    def __init__(self) -> None:
        self.error = ""
        self.text = ""
        self._last: tuple[str, str, str] | None = None
        self._sequence = 0

    def forget(self) -> None:
        """Publish the next subtask even if its text is unchanged."""
        self.forget_error()
        self._last, self.text = None, ""

    def forget_error(self) -> None:
        """Forget the error: no request is sent now."""
        self.error = ""

    def take(
        self, now: int, answer: ParsedAnswer, prompt: str, observation_ns: int
    ) -> PublishSubtask | None:
        """What to show of an answer; None if there is nothing new.

        Args:
            now: this moment.
            answer: what the server has sent.
            prompt: the instruction it was asked for.
            observation_ns: stamp of the observation that was answered; the subtask may be older.
        """
        self.error = answer.planner_error
        subtask = answer.subtask
        if subtask is None:
            if not self.error:
                return None
            subtask = PlannerSubtask("", age_ns=0)
        words = (subtask.text, prompt, self.error)
        if words == self._last:
            return None
        self._last, self.text = words, subtask.text
        self._sequence += 1
        stamp_ns = max(0, observation_ns - subtask.age_ns)
        return PublishSubtask(
            stamp_ns=stamp_ns,
            text=subtask.text,
            prompt=prompt,
            sequence=self._sequence,
            age=max(0.0, to_seconds(now - stamp_ns)),
            error=self.error,
        )

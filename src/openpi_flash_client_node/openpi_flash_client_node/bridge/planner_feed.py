"""What the planner last said: words, of which only news are passed on, or why it said nothing."""

from __future__ import annotations

from openpi_flash_client_node.bridge.effects import PublishSubtask
from openpi_flash_client_node.link.answer import ParsedAnswer, SubtaskWords


class PlannerFeed:
    """Passes a subtask on when its words, or the instruction it was made for, have changed.

    Attributes:
        error: why there was no subtask for the last answer; empty if there was one.
    """

    def __init__(self) -> None:
        self.error = ""
        self._last: tuple[str, str] | None = None
        self._sequence = 0

    def forget(self) -> None:
        """The next words are news, whatever they are."""
        self.forget_error()
        self._last = None

    def forget_error(self) -> None:
        """Nothing is asked of the planner now, so it does not fail."""
        self.error = ""

    def take(self, answer: ParsedAnswer, prompt: str, observation_ns: int) -> PublishSubtask | None:
        """What to show of an answer; None if there is nothing new.

        Args:
            answer: what the server has sent.
            prompt: the instruction it was asked for.
            observation_ns: stamp of the observation that was answered; the words may be older.
        """
        self.error = answer.planner_error
        return self._news(answer.subtask, prompt, observation_ns)

    def _news(
        self, words: SubtaskWords | None, prompt: str, observation_ns: int
    ) -> PublishSubtask | None:
        if words is None or (words.text, prompt) == self._last:
            return None
        self._last = (words.text, prompt)
        self._sequence += 1
        return PublishSubtask(
            stamp_ns=max(0, observation_ns - words.age_ns),
            text=words.text,
            prompt=prompt,
            sequence=self._sequence,
        )

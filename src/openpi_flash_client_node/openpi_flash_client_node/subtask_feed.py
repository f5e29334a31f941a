"""Which of the planner's words are news."""

from __future__ import annotations

from openpi_flash_client_node.answer import SubtaskWords
from openpi_flash_client_node.effects import PublishSubtask


class SubtaskFeed:
    """Passes a subtask on when its words, or the instruction it was made for, have changed."""

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None
        self._sequence = 0

    def forget(self) -> None:
        """The next words are news, whatever they are."""
        self._last = None

    def news(
        self, words: SubtaskWords | None, prompt: str, observation_ns: int
    ) -> PublishSubtask | None:
        """What to show; None if there is nothing new.

        Args:
            words: what came with an answer.
            prompt: the instruction it was asked for.
            observation_ns: stamp of the observation that was answered; the words may be older.
        """
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

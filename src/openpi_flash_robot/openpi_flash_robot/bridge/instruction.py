"""What the robot is told to do, and how often that has changed."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Instruction:
    """The instruction that the next request carries.

    Attributes:
        text: for the policy.
        version: 1 at start, one more with each change of the text.
        episode: 1 at start, one more each time the policy's state was reset.
    """

    text: str
    version: int = 1
    episode: int = 1

    def changed(self, text: str) -> Instruction:
        """With another text; itself if the text is the same."""
        return self if text == self.text else replace(self, text=text, version=self.version + 1)

    def anew(self) -> Instruction:
        """In a new episode."""
        return replace(self, episode=self.episode + 1)


NO_INSTRUCTION = Instruction("")

"""The state of the bridge, for people and for `/openpi/status`."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.IntEnum):
    """The same numbers as openpi_flash_msgs/PolicyStatus; a test holds them equal."""

    DISCONNECTED = 0
    CONNECTING = 1
    PAUSED = 2
    RUNNING = 3
    HOLDING = 4
    FAULT = 5


@dataclass(frozen=True)
class Status:
    """One look at the bridge.

    Attributes:
        state: what it does.
        cause: one word for why; stays the same while only numbers in `message` change.
        message: why it does it, for a person.
        prompt: the current instruction.
        sequence: of the running chunk; 0 if there is none.
        chunk_age: seconds since the observation behind it; 0 if there is none.
        steps_buffered: steps of it that are still ahead.
    """

    state: State
    cause: str
    message: str
    prompt: str
    sequence: int
    chunk_age: float
    steps_buffered: int

    def is_news_after(self, last: Status | None) -> bool:
        """Whether a person would see a change, beyond numbers that run by themselves."""
        return last is None or (self.state, self.cause, self.prompt) != (
            last.state,
            last.cause,
            last.prompt,
        )

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
    """The state of the bridge at one moment.

    Attributes:
        state: for programs.
        cause: one word for the reason; constant while only numbers in `message` change.
        message: the reason, for people.
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

    def differs_from(self, last: Status | None) -> bool:
        """Whether state, cause or instruction differ; numbers in `message` do not count."""
        return last is None or (self.state, self.cause, self.prompt) != (
            last.state,
            last.cause,
            last.prompt,
        )

"""The state of the bridge, for people and for `/openpi/status`."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass

from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.hold import Hold


class State(enum.IntEnum):
    """The same numbers as openpi_flash_msgs/PolicyStatus; a test holds them equal."""

    DISCONNECTED = 0
    CONNECTING = 1
    PAUSED = 2
    RUNNING = 3
    HOLDING = 4
    FAULT = 5


class Cause(enum.IntEnum):
    """Why it is in its state; the numbers of PolicyStatus's CAUSE_ constants."""

    NONE = 0
    WAITING = 1
    LINK = 2
    MISMATCH = 3
    SETTINGS = 4
    INACTIVE = 5
    PAUSED = 6
    HELD = 7
    REQUESTED = 8
    CLOCK = 9
    OBSERVATION = 10
    EXHAUSTED = 11
    LATE = 12
    BAD_CHUNK = 13
    START_JUMP = 14
    REFUSED = 15
    TRACKING = 16
    COMMANDER = 17
    EMERGENCY_STOP = 18
    PLANNER = 19
    GOAL = 20
    TAKEOVER = 21


@dataclass(frozen=True)
class Condition:
    """The state, and why.

    Attributes:
        state: for programs.
        cause: constant while only numbers in `message` change.
        message: the reason, for people.
        resumes_by_itself: whether the robot goes on when the cause is gone, without a person's word
            to this node.
    """

    state: State
    cause: Cause
    message: str
    resumes_by_itself: bool = True


def holding(reason: Hold, *, resumes_by_itself: bool = True) -> Condition:
    """The condition of a robot that holds."""
    return Condition(State.HOLDING, Cause[reason.kind.name], reason.message, resumes_by_itself)


@dataclass(frozen=True)
class Status:
    """The state of the bridge at one moment.

    Attributes:
        condition: the state, and why.
        instruction: the current one.
        model: what the server serves; empty where it does not say.
        checkpoint: name of its weights; empty where it does not say.
        sequence: of the running chunk; 0 if there is none.
        chunk_age: seconds since the observation behind it; 0 if there is none.
        steps_buffered: steps of it that are still ahead.
        limited_share: of its steps, at which limits keep the robot off them.
        tracking_error: rad or m, of the joint that follows worst; NaN while nothing is commanded.
        intervention: whether a person commands the robot.
        held_for: seconds since the robot came to hold; 0 while it plays a chunk.
        jpeg_quality: of the images of the latest answered request; 0: they were raw.
        transport: of requests, where the link chooses: `quic` or `websocket`; else empty.
    """

    condition: Condition
    instruction: Instruction
    model: str
    checkpoint: str
    sequence: int
    chunk_age: float
    steps_buffered: int
    limited_share: float
    tracking_error: float
    intervention: bool = False
    held_for: float = 0.0
    jpeg_quality: int = 0
    transport: str = ""

    @property
    def prompt(self) -> str:
        """The current instruction's text."""
        return self.instruction.text

    @property
    def state(self) -> State:
        """For programs."""
        return self.condition.state

    @property
    def cause(self) -> Cause:
        """Why, for programs."""
        return self.condition.cause

    @property
    def resumes_by_itself(self) -> bool:
        """Whether the robot goes on when the cause is gone."""
        return self.condition.resumes_by_itself

    @property
    def message(self) -> str:
        """Why, for people."""
        return self.condition.message

    @property
    def line(self) -> str:
        """The state and why, for a log."""
        return f"{self.state.name}: {self.message}" if self.message else self.state.name

    @property
    def severity(self) -> int:
        """How a log has to tell it: a level of Python's `logging`."""
        if self.state is State.FAULT:
            return logging.ERROR
        stands = self.state in (State.DISCONNECTED, State.HOLDING)
        if self.cause is Cause.PLANNER or (stands and self.cause is not Cause.WAITING):
            return logging.WARNING
        return logging.INFO

    def differs_from(self, last: Status | None) -> bool:
        """Whether state, cause, instruction or transport differ; `message` does not count."""
        if last is None:
            return True
        ours, theirs = self.condition, last.condition
        return (
            ours.state,
            ours.cause,
            ours.resumes_by_itself,
            self.instruction,
            self.transport,
        ) != (
            theirs.state,
            theirs.cause,
            theirs.resumes_by_itself,
            last.instruction,
            last.transport,
        )

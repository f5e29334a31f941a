"""Playing an action chunk one step at a time, without asking the server for each. No sockets.

A policy answers with a chunk: `actions` of shape `[H, D]`. With an open-loop horizon N, the client
asks once and hands out min(N, H) of the chunk's steps, one per `infer`, before it asks again. Of
each step:

- every array of the answer whose first dimension is H, at any depth, loses that dimension:
  `actions` is `[D]`;
- everything else (`policy_timing`, arrays of other shapes) comes with each step as it was sent.

H is the length of `actions`, or the server's `action_horizon` where `actions` has another shape.
An answer without an array of that length (a subtask alone) is no chunk: it is returned as it is,
and the next `infer` asks again. An `infer` with another `prompt`, `mode` or `session` asks again,
too: the remaining steps were computed for another task. Errors are not kept, and neither is the
answer to a request from before a `reset`.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ENVIRONMENT_NAME", "OpenLoop", "Question", "horizon_from"]

ENVIRONMENT_NAME = "OPENPI_OPEN_LOOP_HORIZON"
"""The environment variable that sets the horizon if the program does not."""

_INTENT_KEYS = ("prompt", "mode", "session")


def horizon_from(option: int | None, environment: Mapping[str, str]) -> int | None:
    """How many steps of a chunk to play; None: hand out whole chunks.

    Args:
        option: the constructor's argument; 0: whole chunks, None: as the environment says.
        environment: `os.environ`.

    Raises:
        ValueError: it is not a whole number from 0 up; names its origin.
    """
    if option is not None:
        return _steps("open_loop_horizon", option) or None
    text = environment.get(ENVIRONMENT_NAME, "").strip()
    if not text:
        return None
    return _steps(ENVIRONMENT_NAME, int(text) if text.isdecimal() else text) or None


@dataclass(frozen=True, eq=False)
class Question:
    """A request whose answer may be kept.

    Attributes:
        number: increases with each question.
        intent: `prompt`, `mode` and `session` of the observation.
    """

    number: int
    intent: tuple[Any, ...]


@dataclass(eq=False)
class _Chunk:
    question: Question
    answer: dict[str, Any]
    length: int
    steps: int
    next_step: int


class OpenLoop:
    """The chunk that is being played. Any number of threads may share it.

    Args:
        horizon: how many steps of a chunk are handed out, at least 1.
    """

    def __init__(self, horizon: int) -> None:
        if horizon < 1:
            raise ValueError(f"open_loop_horizon must be at least 1, got {horizon}")
        self.horizon = horizon
        self._lock = threading.Lock()
        self._chunk: _Chunk | None = None
        self._asked = 0
        self._forgotten_up_to = 0

    def step(self, observation: Mapping[str, Any]) -> dict[str, Any] | None:
        """The next step of the chunk, or None where the server must be asked."""
        intent = _intent(observation)
        with self._lock:
            chunk = self._chunk
            if chunk is None or not _is_same(chunk.question.intent, intent):
                return None
            step = chunk.next_step
            chunk.next_step += 1
            if chunk.next_step >= chunk.steps:
                self._chunk = None
        return _slice(chunk.answer, chunk.length, step)

    def ask(self, observation: Mapping[str, Any]) -> Question:
        """Notes that a request is about to be sent."""
        intent = _intent(observation)
        with self._lock:
            self._asked += 1
            return Question(self._asked, intent)

    def first_step(
        self, question: Question, answer: dict[str, Any], action_horizon: int | None
    ) -> dict[str, Any]:
        """Keeps the chunk of an answer, and returns its first step.

        Args:
            question: the request that it answers.
            answer: as the server sent it.
            action_horizon: the length of its chunks, as the server's metadata says.
        """
        length = _chunk_length(answer, action_horizon)
        if length is None or not _has_length(answer, length):
            return answer
        chunk = _Chunk(question, answer, length, min(self.horizon, length), next_step=1)
        with self._lock:
            is_newer = self._chunk is None or self._chunk.question.number < question.number
            if question.number > self._forgotten_up_to and is_newer and chunk.steps > 1:
                self._chunk = chunk
        return _slice(answer, length, 0)

    def first_action(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The first step of first actions, or of a whole answer: `actions` [D].

        What is no chunk has none.
        """
        actions = answer.get("actions")
        if not isinstance(actions, np.ndarray) or actions.ndim < 2 or not len(actions):
            return {}
        return {"actions": actions[0]}

    def forget(self) -> None:
        """Drops the chunk; answers to requests that are under way are not kept."""
        with self._lock:
            self._chunk = None
            self._forgotten_up_to = self._asked


def _steps(name: str, value: Any) -> int:
    try:
        steps = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        steps = -1
    if steps < 0:
        raise ValueError(
            f"{name} must be a whole number of steps from 0 (whole chunks) up, got {value!r}"
        )
    return steps


def _intent(observation: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(observation.get(key) for key in _INTENT_KEYS)


def _is_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    # a prompt may be a 0-d array, as openpi's transforms make it
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _chunk_length(answer: Mapping[str, Any], action_horizon: int | None) -> int | None:
    actions = answer.get("actions")
    if isinstance(actions, np.ndarray) and actions.ndim >= 2 and len(actions) > 0:
        return len(actions)
    return action_horizon


def _has_length(value: Any, length: int) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and len(value) == length
    if isinstance(value, dict):
        return any(_has_length(item, length) for item in value.values())
    if isinstance(value, list):
        return any(_has_length(item, length) for item in value)
    return False


def _slice(value: Any, length: int, step: int) -> Any:
    """One step of a chunk: of each array of this `length` one entry, in new containers."""
    if isinstance(value, np.ndarray):
        return value[step] if _has_length(value, length) else value
    if isinstance(value, dict):
        return {key: _slice(item, length, step) for key, item in value.items()}
    if isinstance(value, list):
        return [_slice(item, length, step) for item in value]
    return value

"""The first steps of an action chunk, ahead of the rest. No sockets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["FIRST_ACTIONS_KEY", "FirstActions", "checked_steps", "first_actions_of"]

FIRST_ACTIONS_KEY = "first_actions"
"""The key of a request that asks for them, where the server's `supports` lists it."""

MOST_STEPS = 2**32 - 1


@dataclass(frozen=True)
class FirstActions:
    """What a submitted request wants ahead of its answer.

    Attributes:
        steps: how many, at least 1.
        take: makes the early result of first actions, and of a whole answer.
    """

    steps: int
    take: Callable[[Mapping[str, Any]], dict[str, Any]]


def checked_steps(steps: Any) -> int:
    """A number of steps.

    Raises:
        ValueError: it is no whole number from 1 up.
    """
    try:
        number = 0 if isinstance(steps, bool) else operator.index(steps)
    except TypeError:
        number = 0
    if not 1 <= number <= MOST_STEPS:
        raise ValueError(f"first_actions must be a whole number of steps from 1 up, got {steps!r}")
    return number


def first_actions_of(answer: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The first steps of an answer: `actions` [steps, D], all of them if it has fewer.

    An answer without actions has none.
    """
    actions = answer.get("actions")
    if not isinstance(actions, np.ndarray) or actions.ndim < 1:
        return {}
    return {"actions": actions[:steps]}

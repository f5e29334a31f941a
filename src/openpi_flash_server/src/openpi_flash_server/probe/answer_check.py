"""Whether an answer is what the server's metadata says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def problem_of(
    answer: Mapping[str, Any], metadata: Mapping[str, Any], *, expects_actions: bool
) -> str:
    """What is wrong with an answer; empty if nothing is.

    Args:
        answer: of the server.
        metadata: of the server.
        expects_actions: whether it should hold a chunk; else a subtask.
    """
    if not expects_actions:
        subtask = answer.get("subtask")
        if not isinstance(subtask, Mapping) or not isinstance(subtask.get("text"), str):
            return "the answer holds no subtask"
        return _planner_error(subtask)
    actions = answer.get("actions")
    if not isinstance(actions, np.ndarray) or actions.ndim != 2 or actions.dtype.kind not in "fiu":
        return "the answer holds no actions [horizon, action_dim]"
    for key, size in zip(("action_horizon", "action_dim"), actions.shape, strict=True):
        said = metadata.get(key)
        if said is not None and said != size:
            return f"actions are {list(actions.shape)}, the metadata's {key} is {said}"
    if not np.isfinite(actions).all():
        return "actions hold a number that is not finite"
    subtask = answer.get("subtask")
    return _planner_error(subtask) if isinstance(subtask, Mapping) else ""


def _planner_error(subtask: Mapping[str, Any]) -> str:
    error = subtask.get("error")
    message = error.get("message") if isinstance(error, Mapping) else error
    return f"the planner failed: {message}" if error else ""

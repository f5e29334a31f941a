"""Parses the server's answers: a checked chunk, the planner's subtask, times."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.columns import of_policy
from openpi_flash_robot.play.pose_values import with_rotations
from openpi_flash_robot.play.splice.rtc import Continuation
from openpi_flash_robot.settings.server_contract import Agreement


def rtc_of(continuation: Continuation, agreement: Agreement) -> dict[str, Any]:
    """What a request says of the running chunk, in the server's columns and words."""
    known = of_policy(
        continuation.previous_actions[: agreement.horizon], agreement.axes, agreement.step_ns
    )
    known = with_rotations(known, agreement.poses)
    previous = np.zeros((len(known), agreement.column_count), dtype=np.float32)
    previous[:, list(agreement.columns)] = known
    horizon = agreement.horizon or continuation.execution_horizon
    said: dict[str, Any] = {
        "previous_actions": previous,
        "delay": min(continuation.delay, len(known)),
        "execution_horizon": min(continuation.execution_horizon, horizon),
    }
    if continuation.is_prefix and "rtc_prefix" in agreement.supports:
        said["method"] = "prefix"
    return said


class AnswerError(ValueError):
    """The answer holds no chunk for this robot."""


@dataclass(frozen=True)
class PlannerSubtask:
    """The planner's subtask.

    Attributes:
        text: for example "pick up the red cube".
        age_ns: how old it was when the server answered.
    """

    text: str
    age_ns: int


@dataclass(frozen=True, eq=False)
class ParsedAnswer:
    """A parsed answer.

    Attributes:
        actions: float64 [H, C], the policy's numbers in the order of the axes; may hold NaN.
        subtask: None if the server has no planner.
        planner_error: why there is no subtask, and the actions follow the instruction alone, or
            why it is an old one; empty if all is well, or there is no planner.
        server_s: time of inference on the server, seconds; NaN if the answer has none.
    """

    actions: NDArray[np.float64]
    subtask: PlannerSubtask | None
    planner_error: str
    server_s: float


def parse_answer(result: Mapping[str, Any], agreement: Agreement) -> ParsedAnswer:
    """Take what the node needs out of a result.

    Raises:
        AnswerError: there is no array of actions, or it has the wrong shape.
    """
    if not isinstance(result, Mapping):
        raise AnswerError(f"the answer is {type(result).__name__}, expected a map")
    return ParsedAnswer(
        actions=_actions(result, agreement),
        subtask=_subtask(result.get("subtask")),
        planner_error=_planner_error(result.get("subtask")),
        server_s=_server_seconds(result.get("server_timing")),
    )


def parse_first(result: Mapping[str, Any], steps: int, agreement: Agreement) -> NDArray[np.float64]:
    """The first steps of a chunk, float64 [steps, C] in the order of the axes; may hold NaN.

    Raises:
        AnswerError: there is no array of actions, or it has the wrong shape.
    """
    return _actions(result, dataclasses.replace(agreement, horizon=steps))


def _actions(result: Mapping[str, Any], agreement: Agreement) -> NDArray[np.float64]:
    if "actions" not in result:
        raise AnswerError(f"the answer has no actions, only {', '.join(map(str, result))}")
    actions = result["actions"]
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
        kind = getattr(actions, "dtype", type(actions).__name__)
        raise AnswerError(f"the actions are {kind}, expected an array of numbers")
    steps = "steps" if agreement.horizon is None else str(agreement.horizon)
    if (
        actions.ndim != 2
        or actions.shape[0] == 0
        or actions.shape[1] != agreement.column_count
        or (agreement.horizon is not None and actions.shape[0] != agreement.horizon)
    ):
        raise AnswerError(
            f"the actions have shape {list(actions.shape)}, "
            f"expected [{steps}, {agreement.column_count}]"
        )
    return np.asarray(actions[:, list(agreement.columns)], dtype=np.float64)


def _subtask(subtask: Any) -> PlannerSubtask | None:
    if not isinstance(subtask, Mapping) or not isinstance(subtask.get("text"), str):
        return None
    age_ms = _number(subtask.get("age_ms"), 0.0)
    return PlannerSubtask(subtask["text"], age_ns=max(0, round(age_ms * 1e6)))


def _planner_error(subtask: Any) -> str:
    error = subtask.get("error") if isinstance(subtask, Mapping) else None
    if isinstance(error, Mapping):
        parts = (error.get("code"), error.get("message"))
        return ": ".join(str(part) for part in parts if part) or "no reason given"
    return "" if error is None else str(error)


def _server_seconds(timing: Any) -> float:
    if not isinstance(timing, Mapping):
        return float("nan")
    return _number(timing.get("infer_ms"), float("nan")) / 1e3


def _number(value: Any, otherwise: float) -> float:
    if isinstance(value, (int, float, np.number)) and np.isfinite(value):
        return float(value)
    return otherwise

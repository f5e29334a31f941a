"""Compares two answers to one observation, and sums the differences up. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Verdict(enum.StrEnum):
    """How two answers compare."""

    EQUAL = "equal"
    """Bit for bit, or the same error."""
    CLOSE = "close"
    """No number differs by more than the tolerance."""
    DIFFERENT = "different"
    """Numbers, shapes, words or errors differ."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two answers.

    Attributes:
        verdict: the result.
        reason: what differs first; empty if nothing does.
        largest: the largest difference of two numbers of the actions; 0 if they cannot be compared.
        columns: [D] the largest difference of each number of an action; None as above.
    """

    verdict: Verdict
    reason: str = ""
    largest: float = 0.0
    columns: np.ndarray | None = None


def compare_answers(
    expected: Mapping[str, Any], actual: Mapping[str, Any], *, tolerance: float = 0.0
) -> Comparison:
    """Compares `{result}` or `{error}` of both: actions and subtask, or the code of the error.

    Args:
        expected: what was answered first.
        actual: the other answer.
        tolerance: of a number of the actions, in its unit.
    """
    if "error" in expected or "error" in actual:
        return _compare_errors(expected, actual)
    first, second = expected.get("result", {}), actual.get("result", {})
    words = _compare_words(first, second)
    actions = _compare_actions(first.get("actions"), second.get("actions"), tolerance)
    if words and actions.verdict is not Verdict.DIFFERENT:
        return Comparison(Verdict.DIFFERENT, words, actions.largest, actions.columns)
    return actions


def _compare_errors(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> Comparison:
    codes = [str(answer.get("error", {}).get("code", "an answer")) for answer in (expected, actual)]
    if codes[0] == codes[1]:
        return Comparison(Verdict.EQUAL)
    return Comparison(Verdict.DIFFERENT, f"{codes[0]} became {codes[1]}")


def _compare_words(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    texts = [_subtask(result) for result in (first, second)]
    return "" if texts[0] == texts[1] else f"subtask {texts[0]!r} became {texts[1]!r}"


def _subtask(result: Mapping[str, Any]) -> str:
    subtask = result.get("subtask")
    return str(subtask.get("text", "")) if isinstance(subtask, Mapping) else ""


def _compare_actions(first: Any, second: Any, tolerance: float) -> Comparison:
    if first is None and second is None:
        return Comparison(Verdict.EQUAL)
    if first is None or second is None:
        side = "the first" if first is None else "the second"
        return Comparison(Verdict.DIFFERENT, f"{side} answer has no actions")
    one, other = np.asarray(first), np.asarray(second)
    if one.shape != other.shape:
        reason = f"actions {list(one.shape)} became {list(other.shape)}"
        return Comparison(Verdict.DIFFERENT, reason)
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    largest = float(difference.max(initial=0.0))
    columns = difference.reshape(-1, one.shape[-1]).max(axis=0, initial=0.0) if one.ndim else None
    if one.dtype == other.dtype and one.tobytes() == other.tobytes():
        return Comparison(Verdict.EQUAL, "", largest, columns)
    # a number that is not finite is never within a tolerance
    if largest <= tolerance and tolerance > 0:
        return Comparison(Verdict.CLOSE, "", largest, columns)
    where = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return Comparison(
        Verdict.DIFFERENT,
        f"actions{[int(index) for index in where]} differ by {largest:.3g}",
        largest,
        columns,
    )


@dataclass
class ComparisonTally:
    """Sums up comparisons.

    Attributes:
        verdicts: how many of each.
        largest: of all differences.
        columns: [D] the largest difference of each number of an action.
        reasons: how often each; the first few kinds only.
    """

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    largest: float = 0.0
    columns: np.ndarray | None = None
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, comparison: Comparison) -> None:
        """Takes one into account."""
        self.verdicts[comparison.verdict] += 1
        self.largest = max(self.largest, comparison.largest)
        columns = comparison.columns
        if columns is not None:
            if self.columns is None or self.columns.shape != columns.shape:
                self.columns = columns
            else:
                self.columns = np.maximum(self.columns, columns)
        if comparison.reason and (
            comparison.reason in self.reasons or len(self.reasons) < _MOST_REASONS
        ):
            self.reasons[comparison.reason] += 1

    @property
    def count(self) -> int:
        """How many comparisons."""
        return self.verdicts.total()


_MOST_REASONS = 1000

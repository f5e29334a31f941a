"""Sends recorded requests again, by a call that it is given, and compares the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openpi_flash_server.recording.comparison import (
    Comparison,
    ComparisonTally,
    Verdict,
    compare_answers,
)
from openpi_flash_server.recording.reading import Exchange
from openpi_flash_server.slot.answer import ErrorCode
from openpi_flash_server.slot.session import LONGEST_NAME
from openpi_flash_server.slot.work import RequestClass

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Sends a message; returns `{result}` or `{error: {code, message}}`."""


@dataclass
class ReplayReport:
    """What became of a replay.

    Attributes:
        seeded: comparisons of requests whose noise is known, so that answers should be equal.
        unseeded: of the others: differences are expected of a policy that draws noise.
        skipped: how many requests were not sent, by reason.
        first_differences: request numbers and reasons, the first few of the seeded ones.
    """

    seeded: ComparisonTally = field(default_factory=ComparisonTally)
    unseeded: ComparisonTally = field(default_factory=ComparisonTally)
    skipped: Counter[str] = field(default_factory=Counter)
    first_differences: list[tuple[int, str]] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether every request whose noise is known was answered as before."""
        return not self.seeded.verdicts[Verdict.DIFFERENT]


def replay(
    exchanges: Iterable[Exchange],
    ask: Ask,
    *,
    tolerance: float = 0.0,
    sent: Callable[[int], None] = lambda _: None,
) -> ReplayReport:
    """Sends the requests one after the other.

    Args:
        exchanges: what was recorded.
        ask: sends a message.
        tolerance: of a number of the actions.
        sent: is told the number of requests that have been sent.
    """
    report = ReplayReport()
    count = 0
    for exchange in exchanges:
        reason = _not_to_be_sent(exchange)
        if reason:
            report.skipped[reason] += 1
            continue
        assert exchange.answer is not None
        for index, message in enumerate(exchange.messages):
            expected = _answer_to(exchange.answer, index, len(exchange.messages))
            comparison = compare_answers(expected, ask(message_again(message)), tolerance=tolerance)
            _add(report, exchange, message, comparison)
            count += 1
            sent(count)
    return report


def message_again(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message to send: of a session of its own, in gaps that robots leave, without a deadline.

    The weights that it expected are left out: another checkpoint may be compared.
    """
    again = {key: value for key, value in message.items() if key not in _LEFT_OUT}
    session = f"replay of {message.get('session', '')}"
    return {
        **again,
        "session": session[:LONGEST_NAME],
        "request_class": str(RequestClass.EVALUATION),
    }


def _not_to_be_sent(exchange: Exchange) -> str:
    if not exchange.messages:
        return "unreadable"
    if exchange.answer is None:
        return "without an answer in the file"
    code = exchange.answer.get("error", {}).get("code")
    return str(code) if code in _BY_CHANCE else ""


def _answer_to(answer: Mapping[str, Any], index: int, count: int) -> Mapping[str, Any]:
    """The answer to one observation of a request."""
    result = answer.get("result")
    if not isinstance(result, Mapping):
        return answer
    actions = result.get("actions")
    is_batch = isinstance(actions, np.ndarray) and actions.ndim == _BATCH_NDIM
    if not is_batch:
        return answer if count == 1 else {"result": {}}
    return {"result": {"actions": np.asarray(actions)[index]}}


def _add(
    report: ReplayReport, exchange: Exchange, message: Mapping[str, Any], comparison: Comparison
) -> None:
    if "seed" not in message and "noise" not in message:
        report.unseeded.add(comparison)
        return
    report.seeded.add(comparison)
    is_different = comparison.verdict is Verdict.DIFFERENT
    if is_different and len(report.first_differences) < _FIRST:
        report.first_differences.append((exchange.request, comparison.reason))


_LEFT_OUT = frozenset(
    {"session", "request_class", "deadline_ms", "expected_artifact", "traceparent"}
)
_BY_CHANCE = frozenset({ErrorCode.SUPERSEDED, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.NOT_READY})
"""Errors that say nothing of the observation."""
_BATCH_NDIM = 3
_FIRST = 10

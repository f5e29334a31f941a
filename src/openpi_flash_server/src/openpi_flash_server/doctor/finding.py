"""What a check of a machine found, and the report of all of them. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at, as `gpu`.
        level: how bad it is.
        text: what was found, with the value.
        remedy: what to do about it; empty where nothing is to be done.
    """

    subject: str
    level: Level
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    """Nothing is to be done."""
    return Finding(subject, Level.OK, text)


def warn(subject: str, text: str, remedy: str) -> Finding:
    """The server runs, less well than it could or less safely than it should."""
    return Finding(subject, Level.WARN, text, remedy)


def fail(subject: str, text: str, remedy: str) -> Finding:
    """The server does not start, or robots get no answers."""
    return Finding(subject, Level.FAIL, text, remedy)


def as_lines(findings: Sequence[Finding]) -> list[str]:
    """The report for people: one line a finding, what to do below it, a sum at the end."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<5} {finding.subject:<12} {finding.text}")
        if finding.remedy:
            lines.append(f"{'':<18} -> {finding.remedy}")
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    lines.append(", ".join(f"{count} {level}" for level, count in counts.items()))
    return lines


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The report for programs: the worst level, and all findings."""
    ranks = list(Level)
    worst = max((finding.level for finding in findings), key=ranks.index, default=Level.OK)
    return {"level": worst, "findings": [asdict(finding) for finding in findings]}

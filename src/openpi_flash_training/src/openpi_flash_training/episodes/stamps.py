"""Which times count: a sensor's own stamps, or when the message was recorded. Pure.

Clocks jump: a computer is set by NTP, a camera counts from its start. The time of recording is the
reference; the stamps of a stream are used where they agree with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SECOND = 1_000_000_000
LARGEST_OFFSET_NS = _SECOND
"""Stamps that are further from the time of recording come from another clock."""
LARGEST_DRIFT_NS = _SECOND // 4
"""Stamps whose distance from the time of recording varies more have jumped."""
STEP_BACK_NS = _SECOND // 10
"""A recorder's clock that goes back by more was set; less is disorder between messages."""


@dataclass(frozen=True)
class ChosenTimes:
    """The times of a stream.

    Attributes:
        times: int64 [n], ns, rising.
        kept: numbers of the messages that they belong to, [n].
        note: what was wrong with the stamps; empty where nothing was.
    """

    times: np.ndarray
    kept: np.ndarray
    note: str = ""


def without_steps_back(received: np.ndarray) -> tuple[np.ndarray, int]:
    """Times of recording without the steps of a clock that was set back.

    What follows a step goes on where the clock was.

    Args:
        received: int64 [N], ns, of all messages in the order of the file.

    Returns:
        The times, and how often the clock went back.
    """
    steps = np.diff(received, prepend=received[:1])
    back = steps < -STEP_BACK_NS
    return received + np.cumsum(np.where(back, -steps, 0)), int(back.sum())


def choose_times(stamps: np.ndarray | None, received: np.ndarray) -> ChosenTimes:
    """The times of a stream's messages.

    Args:
        stamps: int64 [N], ns, of the headers; None where the messages have none.
        received: int64 [N], ns.
    """
    note = ""
    times = received
    if stamps is not None and len(stamps):
        offset = stamps - received
        middle = np.median(offset)
        drift = np.abs(offset - middle).max()
        if abs(middle) > LARGEST_OFFSET_NS:
            note = f"its stamps are {middle / _SECOND:.3g} s off the time of recording"
        elif drift > LARGEST_DRIFT_NS:
            note = f"its stamps jump by up to {drift / _SECOND:.3g} s"
        else:
            times = stamps
        if note:
            note += ", so the time of recording is used"
    kept = _rising(times)
    left_out = len(times) - len(kept)
    if left_out:
        said = f"{left_out} of its {len(times)} messages are not later than those before: left out"
        note = f"{note}; {said}" if note else said
    return ChosenTimes(times[kept], kept, note)


def _rising(times: np.ndarray) -> np.ndarray:
    """Numbers of the times that are later than all before."""
    latest = np.maximum.accumulate(times)
    return np.flatnonzero(np.diff(latest, prepend=latest[:1] - 1) > 0)

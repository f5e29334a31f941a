"""The one line that shows how the run goes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from demo.run_data import Inference, Status


def live_line(
    elapsed: float,
    chunks: int,
    inferences: Sequence[Inference],
    status: Status | None,
    words: str,
) -> str:
    """Return the state of the run in one line.

    Args:
      elapsed: seconds since the run began.
      chunks: how many have arrived since.
      inferences: what is known about each.
      status: the newest.
      words: what else there is to say: the newest subtask, or how many episodes were done.
    """
    parts = [f"{elapsed:5.1f} s"]
    if status is not None:
        parts.append(f"{status.state.name} over {status.transport}")
    parts.append(f"{chunks / elapsed if elapsed > 0 else 0.0:.1f} chunks/s")
    if inferences:
        total = round_trip(inferences)
        parts.append(f"round trip p50 {total[0] * 1e3:.0f} p99 {total[1] * 1e3:.0f} ms")
        parts.append(f"observation age {inferences[-1].observation_age * 1e3:.0f} ms")
    if status is not None and status.message:
        parts.append(status.message)
    elif words:
        parts.append(words)
    return " | ".join(parts)


def round_trip(inferences: Sequence[Inference]) -> tuple[float, float]:
    """Return p50 and p99 of the time from picking an observation to holding its chunk, in s."""
    p50, p99 = np.percentile([inference.total for inference in inferences], [50, 99])
    return float(p50), float(p99)

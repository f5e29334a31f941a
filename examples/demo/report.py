"""Writes what a run leaves behind: pictures, plots and a summary in numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.frames import Frame, save_frames
from demo.live_line import round_trip
from demo.plots import plot_joints, plot_latency
from demo.run_data import RunData
from demo.tracking import commanded_positions, rms_difference, travel
from demo.verdict import Check, passed


def write_report(
    folder: Path, run: RunData, frames: Sequence[Frame], checks: Sequence[Check]
) -> None:
    """Write frames/, joints.png, latency.png and summary.json into a folder."""
    save_frames(list(frames), folder / "frames")
    plot_joints(run, folder / "joints.png")
    plot_latency(run, folder / "latency.png")
    (folder / "summary.json").write_text(json.dumps(summary(run, checks), indent=2) + "\n")


def summary(run: RunData, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the run in numbers; names carry their units."""
    commanded = commanded_positions(run.trajectories, run.joints, run.measured, run.placed)
    numbers: dict[str, Any] = {
        "passed": passed(checks),
        "seconds": round(run.seconds, 3),
        "transport": run.transport,
        "prompt": run.prompt,
        "chunks": len(run.chunks),
        "chunks_per_second": _number(len(run.chunks) / run.seconds if run.seconds else 0.0),
        "images": dict(run.images),
        "episodes": [
            {
                "prompt": episode.prompt,
                "start": episode.start,
                "success": episode.is_success,
                "seconds": round(episode.seconds, 3),
            }
            for episode in run.episodes
        ],
        "subtasks": list(dict.fromkeys(subtask.text for subtask in run.subtasks)),
        "travel_rad": _by_joint(run, travel(run.measured, run.placed)),
        "command_error_rms_rad": _by_joint(run, rms_difference(commanded, run.measured.positions)),
        "exit_codes": dict(run.exit_codes),
        "checks": [
            {"name": check.name, "ok": check.ok, "value": check.value, "bound": check.bound}
            for check in checks
        ],
    }
    if run.inferences:
        p50, p99 = round_trip(run.inferences)
        last = run.inferences[-1]
        numbers["round_trip_ms"] = {"p50": _number(p50 * 1e3), "p99": _number(p99 * 1e3)}
        numbers["median_ms"] = {
            part: _number(1e3 * float(np.median([getattr(i, part) for i in run.inferences])))
            for part in ("observation_age", "preprocess", "network", "server")
        }
        if last.bytes_up:  # not every transport counts them
            numbers["bytes_per_request"] = last.bytes_up
            numbers["bytes_per_answer"] = last.bytes_down
        numbers["chunks_dropped"] = last.chunks_dropped - run.inferences[0].chunks_dropped
        numbers["deadline_misses"] = last.deadline_misses - run.inferences[0].deadline_misses
    return numbers


def summary_lines(run: RunData, checks: Sequence[Check]) -> list[str]:
    """Return the run in a few lines for the terminal, its checks last."""
    lines = [f"  {len(run.chunks)} chunks in {run.seconds:.1f} s over {run.transport}"]
    if run.inferences:
        p50, p99 = round_trip(run.inferences)
        server = float(np.median([inference.server for inference in run.inferences]))
        lines[0] += (
            f", round trip p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms "
            f"(of which the server {server * 1e3:.1f} ms)"
        )
    lines += [f"  {check}" for check in checks]
    return lines


def _by_joint(run: RunData, values: np.ndarray) -> dict[str, float | None]:
    return {joint: _number(float(v)) for joint, v in zip(run.joints, values, strict=True)}


def _number(value: float) -> float | None:
    """Round for reading; JSON has no NaN."""
    return round(value, 4) if np.isfinite(value) else None

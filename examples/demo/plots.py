"""Draws what happened: joints across chunk borders, and where the time of each inference went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from demo.run_data import Array, RunData
from demo.tracking import commanded_positions, rms_difference

MEASURED = "#1f6fb4"
COMMANDED = "#f0a04b"
BORDER = "#9aa0a6"
CHUNKS = ("#2a9d5c", "#a04fb5")
PARTS = {
    "preprocess": ("#7fb7be", "images on the robot"),
    "serialize": ("#d3a35c", "packing"),
    "network": ("#c05a5a", "packing and link, both ways"),
    "server": ("#4a5f9e", "server"),
}
STEPS = ("steps of a chunk", "steps of the next one")
CLOSE_UP = 2.4
"""Seconds shown close up."""
START = 1.0
"""Seconds in which the arm goes to where the policy wants it; no border is to be seen there."""

_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9.5,
    "axes.titlesize": 11,
    "figure.dpi": 110,
}


def plot_joints(run: RunData, path: Path) -> None:
    """Draw commanded against measured positions, whole run and close-up, chunk borders marked."""
    commanded = commanded_positions(run.trajectories, run.joints, run.measured, run.placed)
    errors = rms_difference(commanded, run.measured.positions)
    begin, end = _close_up(run)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(14.5, 1.8 * len(run.joints) + 1.3), layout="constrained")
        axes = figure.subplots(
            len(run.joints), 2, sharex="col", squeeze=False, width_ratios=(1.5, 1.0)
        )
        for joint, name in enumerate(run.joints):
            whole, close = axes[joint]
            for axis in (whole, close):
                _draw_joint(axis, run, commanded, joint)
            unit = "0 open … 1 closed" if name == "gripper" else "rad"
            whole.set_ylabel(f"{name}\n[{unit}]")
            whole.set_title(f"RMS difference {errors[joint]:.4f}", loc="right", fontsize=8.5, pad=2)
            whole.axvspan(begin, end, color="#f3e9d2", zorder=0)
            whole.set_xlim(0.0, max(run.seconds, 1e-3))
            _draw_chunks(close, run, joint, begin, end)
            close.set_xlim(begin, end)
            inside = (run.measured.times >= begin) & (run.measured.times <= end)
            _fit_height(close, [run.measured.positions[inside, joint], commanded[inside, joint]])
        axes[0][0].set_title("the whole run")
        axes[0][1].set_title("close-up: each chunk as the policy sent it, and what became of it")
        for axis in axes[-1]:
            axis.set_xlabel("seconds since the first chunk")
        handles, labels = _legend(axes[0][1])
        figure.legend(
            handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=10
        )
        figure.savefig(path)


def plot_latency(run: RunData, path: Path) -> None:
    """Draw where the time of each inference went, how it is spread, and how old things were."""
    received = np.array([inference.received for inference in run.inferences])
    total = np.array([inference.total for inference in run.inferences]) * 1e3
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(13, 7.2), layout="constrained")
        grid = figure.subplot_mosaic(
            [["parts", "spread"], ["ages", "ages_spread"]], width_ratios=(3.2, 1.0)
        )
        _draw_parts(grid["parts"], run, received, total)
        _draw_spread(grid["spread"], total, "round trip [ms]")
        ages = _draw_ages(grid["ages"], run, received)
        _draw_spread(grid["ages_spread"], ages, "observation age on arrival [ms]")
        link = "QUIC" if run.transport == "quic" else "WebSocket"
        figure.suptitle(f"{len(total)} inferences over {link}", fontsize=12)
        figure.savefig(path)


def _draw_joint(axis: Axes, run: RunData, commanded: Array, joint: int) -> None:
    for chunk in run.chunks:
        axis.axvline(chunk.received, color=BORDER, linewidth=0.7, alpha=0.55, zorder=1)
    axis.plot(
        run.measured.times,
        commanded[:, joint],
        color=COMMANDED,
        linewidth=4.5,
        alpha=0.75,
        label="commanded",
        zorder=3,
    )
    axis.plot(
        run.measured.times,
        run.measured.positions[:, joint],
        color=MEASURED,
        linewidth=1.3,
        label="measured",
        zorder=4,
    )
    axis.yaxis.set_major_locator(MaxNLocator(4))


def _draw_chunks(axis: Axes, run: RunData, joint: int, begin: float, end: float) -> None:
    """Draw the policy's own steps, from when the chunk came until the next one did."""
    ends = [chunk.received for chunk in run.chunks[1:]] + [run.seconds]
    for index, (chunk, replaced) in enumerate(zip(run.chunks, ends, strict=False)):
        due = chunk.due
        shown = (due >= chunk.received) & (due <= replaced + 4 * chunk.step)
        if replaced < begin or chunk.received > end or not shown.any():
            continue
        axis.plot(
            due[shown],
            chunk.values[shown, joint],
            linestyle="none",
            marker="o",
            markersize=3.4,
            alpha=0.6,
            zorder=5,
            color=CHUNKS[index % 2],
            markeredgewidth=0,
            label=STEPS[index % 2],
        )


def _fit_height(axis: Axes, curves: Sequence[Array]) -> None:
    """Leave room for the curves; single steps of a policy may lie far outside."""
    shown = np.concatenate(curves)
    shown = shown[~np.isnan(shown)]
    if len(shown):
        margin = max(0.02, 0.35 * float(np.ptp(shown)))
        axis.set_ylim(float(shown.min()) - margin, float(shown.max()) + margin)


def _legend(axis: Axes) -> tuple[list[Artist], list[str]]:
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    once["a new chunk takes over"] = axis.axvline(np.nan, color=BORDER, linewidth=1.2)
    order = [
        label
        for label in ("commanded", "measured", *STEPS, "a new chunk takes over")
        if label in once
    ]
    return [once[label] for label in order], order


def _close_up(run: RunData) -> tuple[float, float]:
    """Return the span to show close up: where the arm moves most."""
    length = min(CLOSE_UP, run.seconds)
    times, positions = run.measured.times, run.measured.positions
    first = START if run.seconds > length + START else 0.0
    best, most = first, -1.0
    for begin in np.arange(first, max(run.seconds - length, 0.0) + 1e-9, 0.2):
        inside = (times >= begin) & (times <= begin + length)
        moved = float(np.abs(np.diff(positions[inside], axis=0)).sum()) if inside.any() else 0.0
        if moved > most:
            best, most = float(begin), moved
    return best, best + max(length, 1e-3)


def _draw_parts(axis: Axes, run: RunData, received: Array, total: Array) -> None:
    width = 0.7 * float(np.median(np.diff(received))) if len(received) > 1 else 0.2
    floor = np.zeros(len(received))
    for part, (colour, label) in PARTS.items():
        height = np.array([getattr(inference, part) for inference in run.inferences]) * 1e3
        if len(height) and not height.any():  # this link does not measure it
            continue
        axis.bar(
            received,
            height,
            width=width,
            bottom=floor,
            color=colour,
            linewidth=0,
            label=f"{label}: {np.median(height):.1f} ms" if len(height) else label,
        )
        floor = floor + height
    if len(total):
        for percentile, style in ((50, "-"), (99, "--")):
            value = float(np.percentile(total, percentile))
            axis.axhline(
                value,
                color="#222222",
                linewidth=1.0,
                linestyle=style,
                label=f"p{percentile} {value:.1f} ms",
            )
        axis.set_ylim(0, 1.35 * float(total.max()))
    axis.set_xlim(0.0, max(run.seconds, 1e-3))
    axis.set_title("one bar per inference: from picking the observation to holding its chunk")
    axis.set_ylabel("round trip [ms]")
    axis.legend(ncols=3, fontsize=8.5, loc="upper left", frameon=False)


def _draw_ages(axis: Axes, run: RunData, received: Array) -> Array:
    """Draw how old observations were; return their ages when the chunk came, in ms."""
    sent = np.array([inference.observation_age for inference in run.inferences]) * 1e3
    chunk_times = np.array([chunk.received for chunk in run.chunks])
    arrived = np.array([chunk.received - chunk.observed for chunk in run.chunks]) * 1e3
    axis.plot(
        received, sent, "o-", markersize=3, linewidth=0.8, color=MEASURED, label="when it was sent"
    )
    axis.plot(
        chunk_times,
        arrived,
        "o-",
        markersize=3,
        linewidth=0.8,
        color=COMMANDED,
        label="when its chunk came",
    )
    axis.set_xlim(0.0, max(run.seconds, 1e-3))
    highest = max([1.0, *sent.tolist(), *arrived.tolist()])
    axis.set_ylim(0, 1.25 * highest)
    axis.set_title("age of the observation")
    axis.set_xlabel("seconds since the first chunk")
    axis.set_ylabel("age [ms]")
    axis.legend(fontsize=8.5, loc="upper left", ncols=2, frameon=False)
    return arrived


def _draw_spread(axis: Axes, values: Array, label: str) -> None:
    if len(values):
        axis.hist(values, bins=min(40, max(8, len(values) // 2)), color="#8a94a6", linewidth=0)
        p50, p99 = np.percentile(values, [50, 99])
        axis.axvline(p50, color="#222222", linewidth=1.0)
        axis.axvline(p99, color="#222222", linewidth=1.0, linestyle="--")
        axis.set_title(f"p50 {p50:.1f}  p99 {p99:.1f} ms")
    axis.set_xlabel(label)
    axis.set_ylabel("how many")

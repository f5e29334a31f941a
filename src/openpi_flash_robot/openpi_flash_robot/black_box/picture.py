"""The picture of a black box: frames, status, joints, chunks and ages over one time axis."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import imread

from openpi_flash_robot.black_box.contents import Array, Band, Contents, Track

WIDTH = 16.0
"""Inches."""
STATUS_HEIGHT, JOINT_HEIGHT, TIMES_HEIGHT = 1.3, 1.3, 2.6
FRAME_COLUMNS = 12
LEAST_RANGE = 0.02
"""rad or m, and per second: what a joint that stands is not magnified beyond."""
MEASURED = "#1f6fb4"
COMMANDED = "#e8853a"
FAULT = "#b3261e"
STATES = {
    "RUNNING": "#bfe3c6",
    "HOLDING": "#f6d9a8",
    "FAULT": "#f2b3ad",
    "PAUSED": "#d9dce1",
    "CONNECTING": "#d7d3ee",
    "DISCONNECTED": "#c9b8dc",
}
SOURCES = ("#2a9d5c", "#a04fb5", "#c05a5a", "#4a5f9e", "#d3a35c", "#5b8c8c")
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "figure.dpi": 110,
}


def draw(contents: Contents, path: Path, *, seconds: float = 0.0) -> None:
    """Draw the end of a file as a PNG.

    Args:
        contents: of the file.
        path: of the picture.
        seconds: how much is shown before the cause of the file, or before its end where there is
            none; 0 for all.
    """
    zero = contents.fault.begin if contents.fault else contents.end
    begin = max(0.0, zero - seconds) if seconds > 0 else 0.0
    span = (begin, max(contents.end, begin + 1e-3))
    joints = [name for name in contents.joints if name in contents.measured]
    joints = joints or list(contents.commanded) or list(contents.measured)
    rows = max(1, len(joints))
    heights = [STATUS_HEIGHT, *[JOINT_HEIGHT] * rows, TIMES_HEIGHT]
    frames_height = 0.35 + 0.85 * WIDTH / FRAME_COLUMNS * len(contents.frames)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + frames_height + 0.7), layout="constrained")
        figure.suptitle(_title(contents), fontsize=13, x=0.01, ha="left")
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(frames_height, sum(heights)))
        above, below = parts.ravel().tolist()
        if contents.frames:
            _draw_frames(above, contents, span, zero)
        grid = below.add_gridspec(len(heights), 2, height_ratios=heights)
        _draw_status(below.add_subplot(grid[0, :]), contents, span, zero)
        axes = [[below.add_subplot(grid[1 + row, side]) for side in (0, 1)] for row in range(rows)]
        _draw_joints(axes, contents, joints, span, zero)
        _draw_times([below.add_subplot(grid[-1, side]) for side in (0, 1)], contents, span, zero)
        below.align_ylabels()
        figure.savefig(path)


def _title(contents: Contents) -> str:
    fault = contents.fault
    at_ns = contents.began_ns + round((fault.begin if fault else contents.end) * 1e9)
    moment = datetime.fromtimestamp(at_ns / 1e9, tz=timezone.utc)
    what = f"{contents.cause}: {fault.message}" if fault else f"written for: {contents.cause}"
    head = f"{contents.node}, 0 s is {moment:%Y-%m-%d %H:%M:%S} UTC"
    return "\n".join([head, *textwrap.wrap(what, 150)[:2]])


# --- frames ---


def _draw_frames(
    figure: SubFigure, contents: Contents, span: tuple[float, float], zero: float
) -> None:
    """Of each camera the frames nearest to moments that are equally far apart."""
    edges = np.linspace(*span, FRAME_COLUMNS + 1)
    moments = (edges[1:] + edges[:-1]) / 2
    rows = figure.subplots(len(contents.frames), FRAME_COLUMNS, squeeze=False)
    for axes, (camera, frames) in zip(rows, contents.frames.items(), strict=True):
        times = np.array([at for at, _ in frames])
        for axis, moment in zip(axes, moments, strict=True):
            axis.set_axis_off()
            nearest = int(np.argmin(np.abs(times - moment)))
            if abs(times[nearest] - moment) > max(1.0, edges[1] - edges[0]):
                continue
            axis.imshow(imread(io.BytesIO(frames[nearest][1]), format="jpg"))
            axis.set_title(f"{times[nearest] - zero:+.1f} s", fontsize=8, pad=2, loc="center")
        axes[0].text(
            0, -0.04, camera, transform=axes[0].transAxes, va="top", fontsize=9, weight="bold"
        )


# --- status ---


def _draw_status(axis: Axes, contents: Contents, span: tuple[float, float], zero: float) -> None:
    axis.set_title("status, warnings as triangles, and what was heard of stop buttons")
    axis.set_yticks([])
    axis.grid(visible=False)
    width = span[1] - span[0]
    for band in _within(contents.bands, span):
        begin, end = max(band.begin, span[0]), min(band.end, span[1])
        axis.axvspan(begin - zero, end - zero, color=STATES.get(band.state, "#ffffff"), lw=0)
        room = int((end - begin) / width * 190)
        if room < 8:
            continue
        name = band.state if band.cause == "NONE" else f"{band.state} {band.cause}"
        lines = [name[:room], *textwrap.wrap(band.message, max(8, room))][:4]
        axis.text(begin - zero, 0.95, "\n".join(lines), va="top", fontsize=8, clip_on=True)
    for at, _ in contents.warnings:
        axis.plot(at - zero, 0.06, "^", color=FAULT, ms=5)
    last: dict[str, bool] = {}
    for at, topic, value in contents.stops:
        if last.get(topic) != value and span[0] <= at <= span[1]:
            axis.axvline(at - zero, color="#444444", lw=1, ls=":")
            axis.text(at - zero, 0.02, f" {topic} {str(value).lower()}", fontsize=8, va="bottom")
        last[topic] = value
    axis.set_ylim(0, 1)
    _frame_axis(axis, span, zero)


def _within(bands: Sequence[Band], span: tuple[float, float]) -> list[Band]:
    return [band for band in bands if band.end > span[0] and band.begin < span[1]]


# --- joints ---


def _draw_joints(
    axes: Sequence[Sequence[Axes]],
    contents: Contents,
    joints: Sequence[str],
    span: tuple[float, float],
    zero: float,
) -> None:
    if not joints:
        return
    label = "planned (dry run)" if contents.is_dry else "commanded"
    pairs = (
        (contents.commanded, contents.measured),
        (contents.commanded_velocities, contents.measured_velocities),
    )
    for row, joint in zip(axes, joints, strict=True):
        for axis, (commanded, measured) in zip(row, pairs, strict=True):
            for tracks, colour, name in (
                (measured, MEASURED, "measured"),
                (commanded, COMMANDED, label),
            ):
                if joint in tracks:
                    shown = tracks[joint].within(*span)
                    axis.plot(shown.times - zero, shown.values, color=colour, lw=1.2, label=name)
            _shade(axis, contents, span, zero)
            _frame_axis(axis, span, zero)
            _open_up(axis)
            axis.tick_params(labelbottom=False)
        row[0].set_ylabel(joint)
        _mark_distance(row[0], contents, joint, span)
    axes[0][0].set_title("positions [rad or m]")
    axes[0][1].set_title("velocities [rad/s or m/s]")
    axes[0][0].legend(
        loc="lower left", bbox_to_anchor=(0.22, 0.97), ncols=2, fontsize=8.5, frameon=False
    )


def _open_up(axis: Axes) -> None:
    low, high = axis.get_ylim()
    missing = max(0.0, LEAST_RANGE - (high - low))
    axis.set_ylim(low - missing / 2, high + missing / 2)


def _mark_distance(axis: Axes, contents: Contents, joint: str, span: tuple[float, float]) -> None:
    """Say how far command and arm are apart at most."""
    if contents.is_dry or joint not in contents.commanded or joint not in contents.measured:
        return
    measured: Track = contents.measured[joint].within(*span)
    commanded = contents.commanded[joint]
    known = measured.times >= commanded.times[0]
    if not known.any():
        return
    wanted = np.interp(measured.times[known], commanded.times, commanded.values)
    most = np.nanmax(np.abs(wanted - measured.values[known]))
    axis.set_title(f"apart by at most {most:.3f}", loc="right", fontsize=8.5, pad=2)


def _shade(axis: Axes, contents: Contents, span: tuple[float, float], zero: float) -> None:
    for band in _within(contents.bands, span):
        if band.state != "RUNNING":
            colour = STATES.get(band.state, "#ffffff")
            axis.axvspan(band.begin - zero, band.end - zero, color=colour, alpha=0.35, lw=0)


# --- chunks and ages ---


def _draw_times(
    axes: Sequence[Axes], contents: Contents, span: tuple[float, float], zero: float
) -> None:
    chunks, inputs = axes
    _draw_chunks(chunks, contents, zero)
    for colour, (name, arrivals) in zip(
        SOURCES * (1 + len(contents.arrivals) // len(SOURCES)),
        contents.arrivals.items(),
        strict=False,
    ):
        ages = _ages(arrivals, contents.end)
        inputs.plot(ages.times - zero, ages.values * 1e3, color=colour, lw=0.8, label=name)
    inputs.set_title("age of the newest image and joint state [ms]")
    if contents.arrivals:
        inputs.legend(loc="upper left", ncols=4, fontsize=8.5, frameon=False)
    for axis in (chunks, inputs):
        _shade(axis, contents, span, zero)
        _frame_axis(axis, span, zero)
        axis.set_xlabel("seconds, 0 is the cause of the file" if contents.fault else "seconds")
        axis.set_ylim(0.0, 1.2 * axis.get_ylim()[1])  # room for the legend


def _draw_chunks(axis: Axes, contents: Contents, zero: float) -> None:
    ends = _running_until(contents)
    for (came, observed), end in zip(contents.chunks, ends, strict=True):
        ages = np.array([came - observed, end - observed]) * 1e3
        axis.plot([came - zero, end - zero], ages, color=COMMANDED, lw=1.1)
        axis.plot(came - zero, ages[0], "o", color=COMMANDED, ms=3)
    axis.plot([], [], "o-", color=COMMANDED, ms=3, label="age of the running chunk, from arrival")
    answered = [each for each in contents.exchanges if not each.error]
    if answered:
        axis.plot(
            [each.done - zero for each in answered],
            [(each.done - each.sent) * 1e3 for each in answered],
            ".",
            color=MEASURED,
            ms=4,
            label="time from a request to its answer",
        )
    failed = [each for each in contents.exchanges if each.error]
    for each in failed:
        at = each.sent if math.isnan(each.done) else each.done
        axis.plot(at - zero, 0.0, "x", color=FAULT, ms=7, mew=2, clip_on=False)
    if failed:
        axis.plot([], [], "x", color=FAULT, ms=7, mew=2, label="a request without an answer")
    axis.set_title("chunks and answers [ms]")
    axis.legend(loc="upper left", ncols=3, fontsize=8.5, frameon=False)


def _running_until(contents: Contents) -> list[float]:
    """When each chunk was followed by another one, or by a hold."""
    stops = [band.begin for band in contents.bands if band.state != "RUNNING"]
    ends = []
    for index, (came, _) in enumerate(contents.chunks):
        following = contents.chunks[index + 1 : index + 2, 0].tolist()
        later = [moment for moment in (*stops, *following) if moment > came]
        ends.append(min(later, default=contents.end))
    return ends


def _ages(arrivals: Array, end: float) -> Track:
    """How old the newest message was: it grows until the next one comes."""
    came, stamped = arrivals[:, 0], arrivals[:, 1]
    until = np.append(came[1:], max(end, came[-1]))
    times = np.column_stack([came, until]).ravel()
    ages = np.column_stack([came - stamped, until - stamped]).ravel()
    return Track(times, ages)


def _frame_axis(axis: Axes, span: tuple[float, float], zero: float) -> None:
    axis.set_xlim(span[0] - zero, span[1] - zero)
    if span[0] < zero < span[1]:
        axis.axvline(0.0, color=FAULT, lw=1.2, zorder=5)

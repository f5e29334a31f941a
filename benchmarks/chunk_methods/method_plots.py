"""The pictures of the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from chunk_policy import STEP_S, side_way
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from motion_measures import derivatives
from virtual_play import STOP_AND_GO, Case, play

if TYPE_CHECKING:
    from sweep import Point

GREY, INK = "#8c8c8c", "#303030"
COLOURS = {
    STOP_AND_GO: INK,
    "latest": "#c2a14d",
    "temporal_ensemble": "#c0392b",
    "rtc": "#2f6fb2",
    "rtc, vjp on the server": "#7fb0dd",
    "rtc_prefix": "#4d8b57",
}
"""Of the methods that stand out; the others are grey."""

WINDOW_S = 3.0
"""How long a stretch of motion is shown: once past an obstacle."""

SHOWN_FROM_M = 0.3
"""Where on the course it begins."""

SHOWN_STEPS = 30
"""How much of each chunk is shown, whether it was played or not."""


def plot_borders(cases: Sequence[tuple[str, Case]], path: Path) -> None:
    """Position, velocity and jerk of y across borders, a row for each method."""
    figure, panels = plt.subplots(
        len(cases), 3, figsize=(10.5, 0.98 * len(cases) + 0.9), sharex="col", sharey="col"
    )
    for row, (name, case) in zip(panels, cases, strict=True):
        played = play(case)
        _, jerk = derivatives(played)
        # a method that stops is there later
        begin = float(played.times[np.argmax(played.positions[:, 0] > SHOWN_FROM_M)])
        shown = (played.times >= begin) & (played.times <= begin + WINDOW_S)
        times = played.times[shown] - begin
        colour = COLOURS.get(name, GREY)
        y = 1e3 * played.positions[shown, 1]
        way = 1e3 * side_way(played.positions[shown, 0])
        row[0].fill_between(times, -way, way, color="0.93", linewidth=0)
        for start, when, steps in played.chunks:
            ahead = (when >= start) & (when <= start + SHOWN_STEPS * STEP_S)
            row[0].plot(when[ahead] - begin, 1e3 * steps[ahead, 1], color="0.6", linewidth=0.7)
        row[0].plot(times, y, color=colour, linewidth=1.6)
        row[1].plot(times, played.velocities[shown, 1], color=colour, linewidth=1.4)
        inside = shown[: len(jerk)]
        row[2].plot(played.times[: len(jerk)][inside] - begin, jerk[inside, 1], color=colour, lw=1)
        for start, _, _ in played.chunks:
            if 0 <= start - begin <= WINDOW_S:
                for panel in row:
                    panel.axvline(start - begin, color="0.85", linewidth=0.8, zorder=0)
        row[0].set_ylabel(
            name.replace(", ", ",\n"), rotation=0, ha="right", va="center", fontsize=9
        )
        for panel in row:
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=8)
    panels[0, 0].set_ylim(-240, 240)
    panels[0, 1].set_ylim(-0.9, 0.9)
    panels[0, 2].set_ylim(-700, 700)
    for column, title in enumerate(("position y, mm", "velocity, m/s", "jerk, m/s³")):
        panels[0, column].set_title(title, fontsize=10)
        panels[0, column].set_xlim(0, WINDOW_S)
        panels[-1, column].set_xlabel("time, s", fontsize=9)
    figure.tight_layout(h_pad=0.25, w_pad=0.8)
    _save(figure, path)


def plot_delays(points: Sequence[Point], path: Path) -> None:
    """RMS jerk by delay for every method, where chunks agree but for noise, and where not."""
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.4), sharey=True)
    titles = ("chunks differ by 8 mm of noise", "and choose one of two ways, too")
    for panel, has_obstacles, title in zip(panels, (False, True), titles, strict=True):
        found = [
            point
            for point in points
            if point.has_obstacles is has_obstacles and point.jitter_ms == 0
        ]
        for arm in dict.fromkeys(point.arm for point in found):
            _line(panel, [point for point in found if point.arm == arm], "rms_jerk", arm)
        _dress(panel, title, "RMS jerk, m/s³")
        panel.set_yscale("log")
        panel.set_yticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
        panel.minorticks_off()
        _name_lines(panel)
    panels[1].set_ylabel("")
    figure.tight_layout()
    _save(figure, path)


def plot_limits(points: Sequence[Point], arms: Sequence[str], path: Path) -> None:
    """Where the methods end: long delays."""
    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.7))
    for panel, name, has_obstacles, title, label in (
        (panels[0], "rms_jerk", True, "smoothness, two ways", "RMS jerk, m/s³"),
        (panels[1], "off_way", True, "off the nearer way", "RMS distance, mm"),
        (panels[2], "half_reaction", False, "reaction", "half-way to a moved goal after, ms"),
    ):
        for arm in arms:
            found = sorted(
                (
                    point
                    for point in points
                    if point.arm == arm
                    and point.jitter_ms == 0
                    and point.has_obstacles is has_obstacles
                ),
                key=lambda point: point.latency_ms,
            )
            _line(panel, found, name, arm)
        _dress(panel, title, label)
        panel.set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    _save(figure, path)


def _line(panel: Axes, points: Sequence[Point], name: str, arm: str) -> None:
    delays = [point.latency_ms for point in points]
    values = [getattr(point.measures, name) for point in points]
    stands_out = arm in COLOURS
    panel.plot(
        delays,
        values,
        color=COLOURS.get(arm, "0.75"),
        linewidth=2.0 if stands_out else 1.0,
        linestyle="--" if arm == STOP_AND_GO else "-",
        label=arm,
        zorder=3 if stands_out else 2,
    )


def _dress(panel: Axes, title: str, label: str) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("from observation to answer, ms", fontsize=9)
    panel.set_ylabel(label, fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(color="0.93")
    panel.spines[["top", "right"]].set_visible(False)


def _name_lines(panel: Axes) -> None:
    """Write each line's name at its right end, moved apart where they would overlap."""
    low, high = np.log(panel.get_ylim())
    gap = (high - low) / 24.0
    lines = sorted(panel.get_lines(), key=lambda line: float(np.asarray(line.get_ydata())[-1]))
    places = [float(np.log(np.asarray(line.get_ydata())[-1])) for line in lines]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    places[-1] = min(places[-1], high)
    for index in range(len(places) - 2, -1, -1):
        places[index] = min(places[index], places[index + 1] - gap)
    end = float(np.asarray(lines[0].get_xdata())[-1])
    for line, place in zip(lines, places, strict=True):
        named = str(line.get_label()).replace("temporal_ensemble, every", "ensemble, every")
        named = named.replace(" on the server", "")
        colour = line.get_color() if line.get_zorder() == 3 else GREY
        panel.text(end * 1.02, np.exp(place), named, fontsize=8, va="center", color=colour)
    panel.set_xlim(0, end * 1.42)
    panel.set_xticks([0, 80, 160, 240, 320])


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)

"""The pictures of a report, as PNG files in memory."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from openpi_flash_training.evaluation.measures import Cell

INK, FAINT = "#303030", "#d8d8d8"
COLOURS = (
    *("#2f6fb2", "#c0392b", "#4d8b57", "#c2a14d", "#7b5aa6", "#3aa6a0", "#d2691e", "#8c8c8c"),
    *("#303030", "#b05a7a", "#6b8e23"),
)
MARKERS = "osD^vP*Xhd<"


def stages_png(cells: Sequence[Cell]) -> bytes:
    """How many episodes reached each stage: a group of bars for each cell."""
    figure = Figure(figsize=(7.2, 0.6 + 0.34 * sum(len(cell.stages) + 1 for cell in cells)))
    panel = figure.subplots()
    place, names = 0.0, []
    for index, cell in enumerate(cells):
        for stage, share in (*cell.stages.items(), ("success", cell.success)):
            low, high = share.interval
            shown = 100 * share.value
            panel.barh(place, shown, color=COLOURS[index % len(COLOURS)], height=0.72)
            spread = [[max(0.0, shown - 100 * low)], [max(0.0, 100 * high - shown)]]
            panel.errorbar(shown, place, xerr=spread, color=INK, capsize=2, lw=1)
            names.append((place, f"{cell.task}{', swapped' if cell.is_swapped else ''}: {stage}"))
            place += 1
        place += 0.6
    panel.set_yticks([at for at, _ in names], [name for _, name in names], fontsize=8)
    panel.invert_yaxis()
    panel.set_xlim(0, 104)
    panel.set_xlabel("episodes, % (bars: 95 % intervals)", fontsize=9)
    _dress(panel)
    return _png(figure)


def delays_png(cells: Sequence[Cell]) -> bytes:
    """Success, time and jerk against the delay, a line for each method."""
    figure = Figure(figsize=(10.5, 3.9))
    panels = figure.subplots(1, 3)
    measures: tuple[tuple[str, Callable[[Cell], float]], ...] = (
        ("success, %", lambda cell: 100 * cell.success.value),
        ("time to success, s", lambda cell: cell.seconds),
        ("RMS jerk at chunk borders, rad/s³", lambda cell: cell.border_jerk),
    )
    for panel, (title, measure) in zip(panels, measures, strict=True):
        for index, (name, line) in enumerate(_lines(cells).items()):
            delays = [cell.conditions.delay_ms for cell in line]
            # lines that lie on one another are told apart by where their marks are
            shifted = np.array(delays) + 1.6 * (index - len(_lines(cells)) / 2)
            panel.plot(
                shifted,
                [measure(cell) for cell in line],
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=5,
                linewidth=1.3,
                label=name,
            )
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("network delay, ms", fontsize=9)
        panel.set_xticks(sorted({cell.conditions.delay_ms for cell in cells}))
        _dress(panel)
    panels[0].set_ylim(-3, 103)
    for panel in panels[1:]:
        panel.set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(len(labels), 5)
    figure.legend(handles, labels, loc="lower center", ncols=columns, fontsize=8, frameon=False)
    rows = math.ceil(len(labels) / columns)
    figure.tight_layout(rect=(0, 0.03 + 0.055 * rows, 1, 1))
    return _png(figure)


def _lines(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells of one line: the same but for the delay."""
    has_losses = len({cell.conditions.loss for cell in cells}) > 1
    has_held = len({cell.conditions.held for cell in cells}) > 1
    tasks = len({(cell.task, cell.is_swapped) for cell in cells}) > 1
    lines: dict[str, list[Cell]] = {}
    for cell in cells:
        given = cell.conditions
        words = [given.method]
        if tasks:
            words.insert(0, cell.task + (" swapped" if cell.is_swapped else ""))
        if has_losses:
            words.append(f"loss {given.loss:g}")
        if has_held:
            words.append(f"held {given.held:g}")
        lines.setdefault(", ".join(words), []).append(cell)
    return {name: sorted(line, key=lambda c: c.conditions.delay_ms) for name, line in lines.items()}


def errors_png(errors: Sequence[Sequence[float]], names: Sequence[str], step_s: float) -> bytes:
    """Open-loop error [steps, columns] against the time ahead, a line for each column."""
    figure = Figure(figsize=(7.2, 3.8))
    panel = figure.subplots()
    values = np.array(errors)
    times = np.arange(len(values)) * step_s
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        marker = MARKERS[index % len(MARKERS)]
        panel.plot(times, values[:, index], color=colour, marker=marker, markersize=4, label=name)
    panel.set_xlabel("time after the observation, s", fontsize=9)
    panel.set_ylabel("mean absolute error", fontsize=9)
    panel.set_ylim(bottom=0)
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _dress(panel)
    return _png(figure)


def _dress(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.grid(color=FAINT, linewidth=0.6)
    panel.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        figure.savefig(file, format="png", dpi=130, bbox_inches="tight", metadata={"Software": ""})
    return file.getvalue()
